"""Context: what the calls of one program share, each part with what tells that it is out of date."""

import os
import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Self

from calibration.cache.cache import Cache
from calibration.cache.fleet import named_fleet
from calibration.registry import all_backends
from calibration.workload import Workload
from selector.answer import Selection, SelectionWarning
from selector.changes import model_state, packages_and_config, same_host, stamp
from selector.demand.demand import Demand
from selector.evidence.evidence import Environments, elsewhere, evidence
from selector.evidence.identity import environment_of
from selector.evidence.provenance import levels
from selector.host.kinds import HIDING_VARIABLES
from selector.host.spec import HOST_FILE, HostSpec
from selector.memo import Memo
from selector.model.spec import ModelSpec
from selector.predict.prediction import Prediction, predict
from selector.question import Known, Question
from selector.rules.judge import Verdict, judge
from selector.served.evidence import served_evidence

HOST_SECONDS = 30.0
"""A host is looked at anew after this long: free memory and devices change without leaving a sign in a file."""

_MODELS = 512
"""Models that are remembered."""

_ATTEMPTS = 10
"""How often an answer is worked out anew while others write to the cache; a calibration does so every few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A host as it was at a time."""

    host: HostSpec
    state: Hashable
    at: float


class Context:
    """This host, the models that were read, the open caches, and the answers that were worked out from them.

    Nothing of it is out of date: every call looks whether a file, a package, a variable or the cache has changed, and
    works out anew what may have. A program has one Context that all calls share (DEFAULT); another one shares nothing
    with it.

    Threads: `select` and `explain` may be called from any number of threads at once, with one Context and one cache,
    also while a calibration in another thread or process adds launches to that cache. Their answers are those that one
    thread alone would get. `calibrate` may run beside them; a second calibration of the same device raises DeviceBusy.
    `close` a Context when no thread uses it any more.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        """Held while a host is looked at, a cache is opened or a model is put away: each of these is done once."""
        self._seen: _Seen | None = None
        self._models: dict[tuple[bool, str], tuple[Hashable, str, ModelSpec]] = {}
        self._caches: dict[tuple[int, str, str], Cache] = {}
        self._answers = Memo(1024)
        self._verdicts = Memo()
        self._evidence = Memo(256)
        self._elsewhere = Memo(64)
        self._served = Memo(64)
        self._levels = Memo(64)
        self._environments = Memo(8)
        self._watched = Memo(8)

    def question(
        self,
        model: str | Path,
        demand: Demand,
        *,
        cache: Cache | str | Path | None,
        host: HostSpec | None,
        to_serve: bool = False,
    ) -> Question:
        """Read the model, look at the host and open the cache, as far as they are not known.

        Raises:
            ModelError, CacheError: as ModelSpec.read and Cache.open.
            UsageError: as Demand.for_positions.
        """
        spec = self.model(model)
        wanted = demand.for_positions(spec.max_position)
        return Question(
            spec=spec,
            host=host or self.host(),
            demand=wanted,
            cache=self.open(cache),
            to_serve=to_serve or bool(wanted.loads),
        )

    def host(self) -> HostSpec:
        """HostSpec.detect(), again when packages, configuration or visible devices changed, or after HOST_SECONDS."""
        seen = self._seen
        if seen is not None and time.monotonic() - seen.at < HOST_SECONDS and seen.state == self._host_state(seen.host):
            return seen.host
        with self._lock:
            if self._seen is not None and self._seen is not seen:
                return self._seen.host  # another thread has looked meanwhile
            host = HostSpec.detect()
            state = self._host_state(host)
            if seen is not None and state == seen.state and same_host(host, seen.host):
                host = seen.host  # the same in all that is compared: what was worked out for it still holds
            self._seen = _Seen(host=host, state=state, at=time.monotonic())
            return host

    def model(self, model: str | Path) -> ModelSpec:
        """ModelSpec.read(model), again when the folder, its config.json or a file beside it changed.

        Raises:
            ModelError: as ModelSpec.read.
        """
        name = os.fspath(model)
        key = isinstance(model, Path), name
        known = self._models.get(key)
        if known is not None and known[0] == model_state(name, known[1]):
            return known[2]
        spec = ModelSpec.read(model)
        folder = os.fspath(spec.folder)
        with self._lock:
            while len(self._models) >= _MODELS:
                del self._models[next(iter(self._models))]
            self._models[key] = model_state(name, folder), folder, spec
        return spec

    def open(self, where: Cache | str | Path | None, notify: Callable[[str], None] | None = None) -> Cache:
        """An open cache; one that is named is opened once.

        Raises:
            CacheError: as Cache.open.
        """
        if isinstance(where, Cache):
            return where
        name = os.fspath(where) if where else os.environ.get("AUTOBACKEND_CACHE", "")
        if "://" not in name and not name.startswith("/"):
            name = f"{name} in {os.getcwd()}"  # noqa: PTH109
        fleet = named_fleet()
        key = os.getpid(), name, fleet
        cache = self._caches.get(key)
        if cache is None:
            with self._lock:
                cache = self._caches.get(key)
                if cache is None:
                    cache = self._caches[key] = Cache.open(where, fleet=fleet, notify=notify or _warn)
        return cache

    def answer(self, question: Question, strict: bool, make: Callable[[], Selection]) -> Selection:
        """What `make` answered to this very question, as long as the cache is as it was."""
        # The token before the rows: what is written meanwhile makes the answer out of date, never the other way round.
        # A trace is known by what is in it; what is said of it names its file.
        files = tuple(replay.file for replay in question.demand.replays)
        token = question.cache.token()
        key = token, question.demand, files, question.to_serve, strict
        return self._answers.answer(
            key, (question.cache, question.host, question.spec), lambda: _settled(question.cache, token, make)
        )

    def known(self, question: Question) -> Known:
        """What launches and rules say, as far as it is not known already.

        Raises:
            CacheError: the cache cannot be read.
        """
        cache, key, environments = question.cache, question.identity, self.environments(question.host)
        asked = cache.token(), key
        here = self._evidence.answer(asked, (cache, environments), lambda: evidence(cache, key, environments))
        return Known(
            evidence=here,
            elsewhere=lambda: self._elsewhere.answer(
                asked, (cache, environments), lambda: elsewhere(cache, key, environments)
            ),
            predict=partial(_predict, question),
            verdicts=self.verdicts(question),
            levels=lambda: self._levels.answer(asked, (cache,), lambda: levels(cache, key)),
            served=lambda: self._served.answer(
                asked, (cache, environments), lambda: served_evidence(cache, key, environments)
            ),
        )

    def verdicts(self, question: Question) -> tuple[Verdict, ...]:
        """The verdicts of all registered backends; their needed_bytes may be those of a workload a little larger.

        More tokens never make a refused variant legal. So where a workload rounded down and one rounded up to powers of
        two get the same verdicts for the same reasons, so does every workload between them, and two judgements serve
        them all; else it is judged exactly.
        """
        spec, host, demand = question.spec, question.host, question.demand

        def judged(workload: Workload) -> tuple[Verdict, ...]:
            rounded = demand.for_one(workload)
            return self._verdicts.answer(rounded, (spec, host), lambda: judge(spec, host, rounded))

        small, large = judged(_rounded(demand.largest, up=False)), judged(_rounded(demand.largest, up=True))
        if all((a.reasons, a.left_out) == (b.reasons, b.left_out) for a, b in zip(small, large, strict=True)):
            return large
        return judged(demand.largest)

    def environments(self, host: HostSpec) -> Environments:
        """Backend name: the environment that it has on `host` today."""
        return self._environments.answer((), (host,), lambda: _environments_of(host))

    def close(self) -> None:
        """Close the caches that it opened."""
        with self._lock:
            while self._caches:
                self._caches.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _host_state(self, host: HostSpec) -> Hashable:
        environ = os.environ.get
        chosen = environ("AUTOBACKEND_CONFIG"), environ("XDG_CONFIG_HOME"), environ("HOME")
        watched = self._watched.answer(chosen, (host,), lambda: packages_and_config(host))
        return (*map(stamp, watched), environ(HOST_FILE), *map(environ, HIDING_VARIABLES))


DEFAULT = Context()
"""What calls share that name no other."""


def _settled(cache: Cache, token: Hashable, make: Callable[[], Selection]) -> Selection:
    """An answer all parts of which were read from the same cache: a prediction reads more of it than the evidence.

    Args:
        token: the cache's, before anything was read. Each costs an exchange with a database's server.
    """
    for _ in range(_ATTEMPTS):
        made, before = make(), token
        token = cache.token()
        if token == before or _always_changes(cache):
            break
    return made


def _always_changes(cache: Cache) -> bool:
    """A database that is neither SQLite's file nor PostgreSQL has a new token every time, which tells nothing."""
    return cache.token() != cache.token()


def _predict(question: Question, labels: Sequence[str], workload: Workload) -> Prediction | None:
    # All that a prediction is learned from was neither quantised nor spread over devices.
    if not labels or question.spec.quant.method != "none" or question.demand.tensor_parallel != 1:
        return None
    return predict(question.spec, question.host, labels, workload, cache=question.cache)


def _rounded(workload: Workload, *, up: bool) -> Workload:
    def power(number: int) -> int:
        return 1 << ((number - 1).bit_length() if up else number.bit_length() - 1)

    return Workload(
        prompt_tokens=power(workload.prompt_tokens),
        output_tokens=power(workload.output_tokens),
        batch=power(workload.batch),
    )


def _environments_of(host: HostSpec) -> Environments:
    return {name: environment_of(b, host) for name, b in all_backends().items() if name in host.installations}


def _warn(sentence: str) -> None:
    warnings.warn(sentence, SelectionWarning, stacklevel=5)
