"""What hosts have recorded of models as servers under load, read from a cache or from files of results/."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from calibration.cache.cache import Cache
from calibration.load.load import Load
from calibration.load.use import Use, batch_of
from calibration.measurement import Identity, Outcome, OutputVerdict, Served, Unserved
from calibration.registry import all_backends, find
from selector import context as contexts
from selector.demand.demand import Demand
from selector.evidence.evidence import Environments, weigh
from selector.evidence.ranking import rank
from selector.host.spec import HostSpec
from selector.publish.hosts.host_file import HostResults, read
from selector.selection import choose
from selector.served.evidence import ServedRecord, weigh_served

OBJECTIVE = "throughput"
BATCH = "the static batch"
UNMEASURED = "the load unmeasured"

Without = Mapping[tuple[Load, bool], Mapping[str, str]]
"""Of a load, with lossy candidates or without: by what `select` goes where nothing was served, and what it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What one host recorded of one model under closed loops of the same lengths."""

    host: str
    """Its identifier."""
    device: str
    device_kind: str
    model: str
    identity: Identity
    loads: tuple[Load, ...]
    """Two at least, those of the fewest streams first."""
    records: tuple[ServedRecord, ...]
    """Launches that compare with each other, in the static order; they may have points of other loads, too."""
    failed: Mapping[str, Unserved] = field(default_factory=dict)
    without: Without = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model as tables name it."""
        return self.model.removeprefix("shape:")

    def allowed(self, *, lossy: bool) -> list[ServedRecord]:
        """The candidates of a class of precision."""
        return [record for record in self.records if lossy or not is_lossy(record.candidate.label)]


def is_lossy(label: str) -> bool:
    """Whether a candidate is less precise than the model."""
    name, _, variant = label.partition(":")
    return find(name).variant(variant).lossy


def of_cache(cache: Cache, *, batches: Cache | None = None, host: HostSpec | None = None) -> list[Recorded]:
    """What this host has measured.

    Args:
        batches: with whose launches of static batches `select` answers where nothing was served; by default those of
            `cache`.

    Raises:
        CacheError: a cache cannot be read.
        AutobackendError: `select` has no answer for a model.
    """
    here = host or contexts.DEFAULT.host()
    outcomes = list(cache.all(host=here.identifier))
    environments = contexts.DEFAULT.environments(here)
    recorded = _recorded(outcomes, environments, host=here.identifier, device=here.device.name, kind=here.device.kind)
    with never_served(batches or cache) as static:
        return [replace(one, without=by_select(one.model, one.loads, static, here)) for one in recorded]


def of_results(folder: Path) -> list[Recorded]:
    """What the hosts of results/ have published.

    Raises:
        CacheError: a file cannot be read.
    """
    recorded = []
    for path in sorted((folder / "hosts").glob("*.json")):
        published = read(path)
        own = _recorded(
            published.outcomes,
            published.environments,
            host=published.host,
            device=published.device,
            kind=published.device_kind,
        )
        recorded += [replace(one, without=_by_rank(one, published)) for one in own]
    return recorded


def _recorded(
    outcomes: Sequence[Outcome], environments: Environments, *, host: str, device: str, kind: str
) -> list[Recorded]:
    by_model: dict[tuple[str, Identity], list[Served | Unserved]] = {}
    for outcome in sorted(outcomes, key=lambda o: o.started_at):
        if isinstance(outcome, Served | Unserved):
            by_model.setdefault((outcome.model, outcome.identity), []).append(outcome)
    order = {f"{name}:{v.name}": None for name, backend in all_backends().items() for v in backend.variants}
    recorded = []
    for (model, identity), launches in sorted(by_model.items(), key=lambda item: (item[0][0], item[0][1].config)):
        known = weigh_served(launches, identity.config, environments)
        # With other versions than today's, too: the study is of the time at which it was made.
        every = {**known.stale, **known.measured}
        records = [every[label] for label in order if label in every]
        right = tuple(record for record in records if record.agreement.verdict is not OutputVerdict.WRONG)
        recorded += [
            Recorded(
                host=host,
                device=device,
                device_kind=kind,
                model=model,
                identity=identity,
                loads=loads,
                records=right,
                failed=known.failed,
            )
            for loads in _families(point.load for one in right for launch in one.launches for point in launch.points)
        ]
    return recorded


def _families(loads: Iterable[Load]) -> list[tuple[Load, ...]]:
    """Closed loops of the same lengths, where there are two or more."""
    closed = sorted({load for load in loads if load.closed}, key=lambda load: (load.prompt, load.output, load.streams))
    families = [tuple(alike) for _, alike in groupby(closed, key=lambda load: (load.prompt, load.output))]
    return [family for family in families if len(family) > 1]


@contextmanager
def never_served(cache: Cache) -> Iterator[Cache]:
    """A cache with all that another one has, but for launches under load."""
    with tempfile.TemporaryDirectory(prefix="autobackend-") as folder, Cache.open(Path(folder) / "cache.db") as copy:
        copy.add(*(outcome for outcome in cache.all() if not isinstance(outcome, Served | Unserved)))
        for probe in cache.probes():
            copy.add_probe(probe)
        yield copy


def by_select(model: str, loads: Sequence[Load], static: Cache, host: HostSpec) -> Without:
    """What `select` answers with a cache that has nothing that was served.

    Raises:
        AutobackendError: it has no answer.
    """

    def answer(use: Use, *, lossy: bool) -> str:
        chosen = choose(model, workload=use, objective=OBJECTIVE, allow_lossy=lossy, cache=static, host=host)
        return chosen.candidate.label

    return {
        (load, lossy): {BATCH: answer(batch_of(load), lossy=lossy), UNMEASURED: answer(load, lossy=lossy)}
        for load in loads
        for lossy in (False, True)
    }


def _by_rank(recorded: Recorded, published: HostResults) -> Without:
    """By the ranking that `select` answers a static batch with: of another host it cannot be asked here."""
    alike = [o for o in published.outcomes if o.identity.shape == recorded.identity.shape]
    known = weigh(sorted(alike, key=lambda o: o.started_at), recorded.identity.config, published.environments)
    measured = {**known.stale, **known.measured}
    labels = [f"{name}:{v.name}" for name, backend in all_backends().items() for v in backend.variants]
    without: dict[tuple[Load, bool], Mapping[str, str]] = {}
    for load in recorded.loads:
        for lossy in (False, True):
            able = [measured[label] for label in labels if label in measured and (lossy or not is_lossy(label))]
            demand = Demand.of(workload=batch_of(load), objective=OBJECTIVE)
            ranking = rank(able, demand, device_kind=recorded.device_kind)
            without[load, lossy] = {BATCH: ranking[0].candidate.label} if ranking else {}
    return without
