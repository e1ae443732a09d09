"""Evidence: what the cache knows about a model on this device, sorted by how far it can be trusted here and now."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from calibration.cache.cache import Cache
from calibration.cost import fit, points
from calibration.environments.versions import POLICY, differences
from calibration.measurement import Failure, Identity, Measurement, Outcome
from calibration.workload import Workload
from selector.context import Memo
from selector.ranking import Record, Timed

Environments = Mapping[str, Mapping[str, str]]
"""Backend name: its environment today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """By candidate label, each candidate in one place only."""

    measured: Mapping[str, Record]
    """Here, with today's environment and policy."""
    stale: Mapping[str, Record]
    """Here, with others."""
    failed: Mapping[str, Failure]
    """The newest launch here failed; `outdated` says whether it ran with other versions than today's."""
    outdated: frozenset[str]
    """Labels in `failed` that may not fail today."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What another model of the architecture left on such a device, or this model on another host."""

    identity: Identity
    model: str
    records: Mapping[str, Record]
    newest: float


_evidence = Memo(256)
_elsewhere = Memo(64)


def evidence(cache: Cache, identity: Identity, environments: Environments) -> Evidence:
    """Launches of this very model on this host.

    Raises:
        CacheError: the cache cannot be read.
    """
    # The token before the rows: what is written meanwhile makes the answer out of date, never the other way round.
    key = cache.token(), identity
    return _evidence.answer(key, (cache, environments), lambda: weigh(_exactly(cache, identity), environments))


def elsewhere(cache: Cache, identity: Identity, environments: Environments) -> tuple[Elsewhere, ...]:
    """Launches that may be transferred, the nearest first: this model on other hosts, others here, others there.

    The same architecture, quant format, device, dtype and device count. On a published table
    (argonne-lcf/LLM-Inference-Bench without the rows that are wrong there) a winner carried to another size of its
    architecture takes 1.003 times as long as the best where the size is within 1.3 times, at worst 1.23, and 1.038
    where it is 5 times and more, at worst 1.97; carried to another device count 1.023, at worst 5.3.

    Raises:
        CacheError: the cache cannot be read.
    """
    key = cache.token(), identity
    return _elsewhere.answer(key, (cache, environments), lambda: _others(cache, identity, environments))


def _exactly(cache: Cache, identity: Identity) -> list[Outcome]:
    found = cache.find(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
    )
    return [outcome for outcome in found if outcome.identity == identity]


def _others(cache: Cache, identity: Identity, environments: Environments) -> tuple[Elsewhere, ...]:
    groups: dict[Identity, list[Outcome]] = {}
    for outcome in cache.find(architecture=identity.architecture, quant=identity.quant, device=identity.device):
        its = outcome.identity
        if its != identity and (its.dtype, its.device_count) == (identity.dtype, identity.device_count):
            groups.setdefault(its, []).append(outcome)
    found = []
    for its, outcomes in groups.items():
        known = weigh(outcomes, environments)
        records = {**known.stale, **known.measured}
        if records:
            newest = max(outcomes, key=lambda o: o.started_at)
            found.append(Elsewhere(identity=its, model=newest.model, records=records, newest=newest.started_at))
    found.sort(
        key=lambda e: (
            e.identity.fingerprint != identity.fingerprint,
            e.identity.host != identity.host,
            -len(e.records),
            -e.newest,
        )
    )
    return tuple(found)


def weigh(outcomes: Iterable[Outcome], environments: Environments) -> Evidence:
    """Sort launches, the oldest first, by candidate and by whether their environment is today's."""
    by_label: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_label.setdefault(outcome.candidate.label, []).append(outcome)
    measured: dict[str, Record] = {}
    stale: dict[str, Record] = {}
    failed: dict[str, Failure] = {}
    outdated = set()
    for label, its in by_label.items():
        today = environments.get(its[-1].candidate.backend, {})
        current = [o for o in its if o.policy == POLICY and o.environment == today]
        # Of the outdated ones those that ran with what the newest ran with: they compare with each other.
        together = current or [o for o in its if (o.policy, o.environment) == (its[-1].policy, its[-1].environment)]
        newest = together[-1]
        if isinstance(newest, Failure):
            failed[label] = newest
            if not current:
                outdated.add(label)
            continue
        changed = () if current else _changes(newest, today)
        if record := _record(together, changed):
            (measured if current else stale)[label] = record
    return Evidence(measured=measured, stale=stale, failed=failed, outdated=frozenset(outdated))


def _changes(outcome: Outcome, today: Mapping[str, str]) -> tuple[str, ...]:
    policy = [f"measuring policy {outcome.policy} -> {POLICY}"] if outcome.policy != POLICY else []
    return (*differences(outcome.environment, today), *policy)


def _record(outcomes: Sequence[Outcome], changed: tuple[str, ...]) -> Record | None:
    launches = []
    last = None
    for outcome in outcomes:
        if not isinstance(outcome, Measurement):
            continue
        try:
            cost = fit(points(outcome))
        except ValueError:
            continue  # no cell with a time: an import may hold such a launch
        last = outcome
        launches.append(
            Timed(
                cost=cost,
                cells=_shared(tuple(cell.workload for cell in outcome.cells)),
                calibration_id=outcome.calibration_id,
                round=outcome.round,
                started_at=outcome.started_at,
                memory_bytes=outcome.gpu_memory_bytes or outcome.peak_memory_bytes,
            )
        )
    if last is None:
        return None
    return Record(candidate=last.candidate, launches=tuple(launches), last=last, differences=changed)


@lru_cache(1024)
def _shared(cells: tuple[Workload, ...]) -> tuple[Workload, ...]:
    return cells
