"""What `select` remembers between two calls in one process, each with what tells that it is out of date."""

import os
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from calibration.backend import Backend
from calibration.cache.cache import Cache
from calibration.environments.config_file import config_path
from calibration.environments.distributions import beside_folder
from calibration.registry import all_backends
from calibration.workload import Workload
from selector.demand import Demand
from selector.host.spec import HostSpec
from selector.identity import environment_of
from selector.model.spec import ModelSpec
from selector.rules.judge import Verdict, judge

T = TypeVar("T")
Stamp = tuple[int, int, int] | None

HOST_SECONDS = 30.0
"""A host is looked at anew after this long: free memory and devices change without leaving a sign in a file."""

_SIDECARS = ("config.json", "hf_quant_config.json", "quant_config.json", "quantize_config.json")
"""Files that ModelSpec reads and that can change without a change of their folder."""

_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")

_KEPT = 512


class Memo:
    """Answers by key, the oldest forgotten; an answer of other objects than those asked about is none.

    Objects that cannot be hashed (hosts, models, open caches) stand in the key by their id and are kept beside the
    answer, so that no other object can have that id meanwhile.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._answers: dict[Hashable, tuple[tuple[object, ...], object]] = {}

    def answer(self, key: Hashable, owners: tuple[object, ...], make: Callable[[], T]) -> T:
        """What `make` answered for this key and these very objects."""
        whole = (key, *map(id, owners))
        found = self._answers.get(whole)
        if found is not None:
            return found[1]  # type: ignore[return-value]  # of one key all answers have one type
        answer = make()
        while len(self._answers) >= self._kept:
            self._answers.pop(next(iter(self._answers)), None)
        self._answers[whole] = (owners, answer)
        return answer


_models: dict[str, tuple[Hashable, str, ModelSpec]] = {}
_caches: dict[tuple[int, str], Cache] = {}
_verdicts = Memo()
_environments = Memo(8)
_watched = Memo(8)
_host: tuple[Hashable, float, HostSpec] | None = None


def stamp(path: str) -> Stamp:
    """Changes when the file does; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  a tenth of the time of Path.stat
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def this_host() -> HostSpec:
    """HostSpec.detect(), again when packages, configuration or visible devices changed, or after HOST_SECONDS."""
    global _host  # noqa: PLW0603  one host a process
    now = time.monotonic()
    if _host is not None and now - _host[1] < HOST_SECONDS and _host[0] == _host_state(_host[2]):
        return _host[2]
    host = HostSpec.detect()
    state = _host_state(host)
    if _host is not None and state == _host[0] and _same(host, _host[2]):
        host = _host[2]  # the same in all that is compared: what was worked out for it still holds
    _host = state, now, host
    return host


def _same(one: HostSpec, other: HostSpec) -> bool:
    return replace(one, devices=other.devices) == other and _same_devices(one, other)


def _same_devices(one: HostSpec, other: HostSpec) -> bool:
    """The same but for free memory that moved by less than a thirtieth of the device's."""
    return len(one.devices) == len(other.devices) and all(
        replace(a, free_bytes=b.free_bytes) == b and abs(a.free_bytes - b.free_bytes) * 30 < max(a.memory_bytes, 1)
        for a, b in zip(one.devices, other.devices, strict=True)
    )


def _host_state(host: HostSpec) -> Hashable:
    environ = os.environ.get
    chosen = environ("AUTOBACKEND_CONFIG"), environ("XDG_CONFIG_HOME"), environ("HOME")
    return (
        *map(stamp, _watched.answer(chosen, (host,), lambda: _packages_and_config(host))),
        *map(environ, _VISIBLE),
    )


def _packages_and_config(host: HostSpec) -> tuple[str, ...]:
    folders = {os.fspath(folder) for i in host.installations.values() for folder in i.site_packages}
    folders |= {
        os.fspath(beside_folder(host.installations[name].python, pin.partition("==")[0]))
        for name, backend in all_backends().items()
        if name in host.installations
        for pin in backend.facts.beside
    }
    return os.fspath(config_path()), *sorted(folders)


def read_model(model: str) -> ModelSpec:
    """ModelSpec.read(model), again when the folder, its config.json or a file beside it changed.

    Raises:
        ModelError: as ModelSpec.read.
    """
    known = _models.get(model)
    if known is not None and known[0] == _model_state(model, known[1]):
        return known[2]
    spec = ModelSpec.read(model)
    folder = os.fspath(spec.folder)
    while len(_models) >= _KEPT:
        _models.pop(next(iter(_models)), None)
    _models[model] = _model_state(model, folder), folder, spec
    return spec


def _model_state(model: str, folder: str) -> Hashable:
    # `model` is the folder itself, or, for a hub id, a folder that would come first if it existed.
    # A hub id's folder is .../snapshots/REVISION; .../refs/main names the revision.
    return (
        stamp(model),
        stamp(folder),
        *(stamp(f"{folder}/{name}") for name in _SIDECARS),
        None if folder == model else stamp(f"{folder}/../../refs/main"),
    )


def open_cache(where: Cache | str | Path | None, notify: Callable[[str], None]) -> Cache:
    """An open cache; one that is named is opened once a process.

    Raises:
        CacheError: as Cache.open.
    """
    if isinstance(where, Cache):
        return where
    name = os.fspath(where) if where else os.environ.get("AUTOBACKEND_CACHE", "")
    if "://" not in name and not name.startswith("/"):
        name = f"{name} in {os.getcwd()}"  # noqa: PTH109
    key = os.getpid(), name
    if key not in _caches:
        _caches[key] = Cache.open(where, notify=notify)
    return _caches[key]


def verdicts(spec: ModelSpec, host: HostSpec, demand: Demand) -> tuple[Verdict, ...]:
    """The verdicts of all registered backends; their needed_bytes may be those of a workload a little larger.

    More tokens never make a refused variant legal. So where a workload rounded down and one rounded up to powers of two
    get the same verdicts for the same reasons, so does every workload between them, and two judgements serve them all;
    else it is judged exactly.
    """

    def judged(workload: Workload) -> tuple[Verdict, ...]:
        asked = demand.for_one(workload)
        return _verdicts.answer(asked, (spec, host), lambda: judge(spec, host, asked))

    small, large = judged(_rounded(demand.workload, 0)), judged(_rounded(demand.workload, 1))
    if all((a.reasons, a.left_out) == (b.reasons, b.left_out) for a, b in zip(small, large, strict=True)):
        return large
    return judged(demand.workload)


def _rounded(workload: Workload, up: int) -> Workload:
    def power(number: int) -> int:
        return 1 << ((number - 1).bit_length() if up else number.bit_length() - 1)

    return Workload(
        prompt_tokens=power(workload.prompt_tokens),
        output_tokens=power(workload.output_tokens),
        batch=power(workload.batch),
    )


def environments(host: HostSpec) -> dict[str, dict[str, str]]:
    """Backend name: the environment that it has on `host` today."""
    return _environments.answer((), (host,), lambda: _environments_of(host, all_backends()))


def _environments_of(host: HostSpec, backends: dict[str, Backend]) -> dict[str, dict[str, str]]:
    return {name: environment_of(b, host) for name, b in backends.items() if name in host.installations}
