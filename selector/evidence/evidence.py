"""Evidence: what the cache knows of a model on this device, and how far it can be trusted here and now.

Times go by the shape, verdicts by the config. A candidate's times come from the launches of every model of this shape.
Whether its output is right, and whether it failed, only launches of this very config can say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

from calibration.cache.cache import Cache
from calibration.cost import fit, points
from calibration.environments.versions import POLICY, differences
from calibration.measurement import (
    Agreement,
    Answered,
    Failure,
    FailureKind,
    Identity,
    Measurement,
    Outcome,
    OutputVerdict,
    Served,
    Unserved,
)
from calibration.rung import Rung
from calibration.workload import Workload
from selector.evidence.ranking import Record, Timed

Environments = Mapping[str, Mapping[str, str]]
"""Backend name: its environment today."""

OTHER_MODEL = "timed on another model of this shape"
OTHER_VERSIONS = "timed on another model of this shape, and checked with other versions only"
CONFIG_NOT_KEPT = "timed by an older autobackend, which did not keep the config it checked"
ELSEWHERE = "measured on another model"

Kind = TypeVar("Kind", bound=Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnLayers:
    """The launches of a candidate on a model's first layers."""

    rung: Rung
    record: Record

    def to_json(self) -> dict[str, Any]:
        """As `autobackend select --json` prints it."""
        agreement = self.record.agreement
        return {
            "candidate": self.record.candidate.label,
            "layers": self.rung.layers,
            "of": self.rung.of,
            "n": len(self.record.launches),
            "output": str(agreement.verdict),
            "kl": agreement.kl,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known, by candidate label. A label is in `measured`, in `stale`, in `failed` or in none of them."""

    measured: Mapping[str, Record]
    """Times from this host with today's environment and policy."""
    stale: Mapping[str, Record]
    """Times from this host with another environment or policy."""
    failed: Mapping[str, Failure]
    """The newest launch of this config failed; `outdated` says whether it ran with other versions than today's. So did
    the one on the most layers of a candidate whose whole model was never launched."""
    outdated: frozenset[str]
    """Labels in `failed` that may not fail today."""
    unchecked: Mapping[str, str]
    """Labels in `measured` or `stale` whose output was never checked for this config with these versions, and where
    times are from: `timed on another model of this shape`."""
    layers: Mapping[str, tuple[OnLayers, ...]] = field(default_factory=dict)
    """Times on a few layers with today's environment and policy, the deepest rung first; of labels in `measured` and
    `stale`, too."""

    def answers_wrong(self, label: str) -> bool:
        """Whether the candidate's output is wrong with today's versions."""
        failure = self.failed.get(label)
        return failure is not None and failure.kind is FailureKind.WRONG_OUTPUT and label not in self.outdated

    def tells_of(self, label: str) -> bool:
        """Whether the candidate was ever launched here."""
        return any(label in known for known in (self.measured, self.stale, self.failed, self.layers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What another model of the architecture left on such a device, or this model on another host."""

    identity: Identity
    model: str
    records: Mapping[str, Record]
    newest: float


def evidence(cache: Cache, identity: Identity, environments: Environments) -> Evidence:
    """What the launches on this host say: those of the shape of the times, those of the config of right and failed.

    Launches on a few layers stand apart: they tell times of the whole model by a prediction alone.

    Raises:
        CacheError: the cache cannot be read.
    """
    by_cut: dict[str, list[Outcome]] = {}
    for outcome in _of_this_shape(cache, identity):
        by_cut.setdefault(outcome.identity.cut, []).append(outcome)
    whole = weigh(by_cut.pop(identity.cut, ()), identity.config, environments)
    if identity.cut:
        return whole
    layers, failed, outdated = dict[str, tuple[OnLayers, ...]](), dict[str, Failure](), set[str]()
    rungs = sorted(((Rung.parse(cut), outcomes) for cut, outcomes in by_cut.items()), key=lambda pair: pair[0].layers)
    for rung, outcomes in reversed(rungs):
        known = weigh(outcomes, identity.config, environments)
        for label, record in known.measured.items():
            if label not in failed:
                layers[label] = (*layers.get(label, ()), OnLayers(rung=rung, record=record))
        new = known.failed.keys() - layers.keys() - failed.keys()
        failed |= {label: known.failed[label] for label in new if not whole.tells_of(label)}
        outdated |= new & known.outdated
    return replace(
        whole, layers=layers, failed={**whole.failed, **failed}, outdated=whole.outdated | (outdated & failed.keys())
    )


def elsewhere(cache: Cache, identity: Identity, environments: Environments) -> tuple[Elsewhere, ...]:
    """Launches that may be transferred, the nearest first: this shape on other hosts, others here, others there.

    The same architecture, quant format, device, dtype, device count and cut. On a published table
    (argonne-lcf/LLM-Inference-Bench without the rows that are wrong there) a winner carried to another size of its
    architecture takes 1.003 times as long as the best where the size is within 1.3 times, at worst 1.23, and 1.038
    where it is 5 times and more, at worst 1.97; carried to another device count 1.023, at worst 5.3.

    A candidate that failed there is left out. That it was right there counts for this very config alone.

    Raises:
        CacheError: the cache cannot be read.
    """
    by_model: dict[Identity, list[Outcome]] = {}
    for outcome in cache.find(
        architecture=identity.architecture, quant=identity.quant, device=identity.device, cut=identity.cut
    ):
        model = outcome.identity
        alike = (model.dtype, model.device_count) == (identity.dtype, identity.device_count)
        if alike and model.shape != identity.shape:
            by_model.setdefault(model, []).append(outcome)
    elsewheres = []
    for model, outcomes in by_model.items():
        known = weigh(outcomes, model.config, environments)
        records = {**known.stale, **known.measured}
        if model.config != identity.config:
            records = {label: replace(r, agreement=_unchecked(ELSEWHERE)) for label, r in records.items()}
        if records:
            newest = max(outcomes, key=lambda o: o.started_at)
            elsewheres.append(Elsewhere(identity=model, model=newest.model, records=records, newest=newest.started_at))
    elsewheres.sort(
        key=lambda e: (
            e.identity.fingerprint != identity.fingerprint,
            e.identity.config != identity.config,
            e.identity.host != identity.host,
            -len(e.records),
            -e.newest,
        )
    )
    return tuple(elsewheres)


def weigh(outcomes: Iterable[Outcome], config: str, environments: Environments) -> Evidence:
    """Sort the launches of one shape by candidate and by whether their environment is today's.

    Verdicts and failures count for `config` alone: another model of the shape may be right where this model is wrong,
    or run where it fails. A failure of `config` takes the candidate out, whatever times other models left. Launches of
    older versions have no config. Of them the times count and nothing else, since nobody can say which of the shape's
    models they launched; only where `config` is empty as well do their verdicts and failures count.

    Args:
        outcomes: the oldest first; launches under load are left out, see selector.served.
        config: the model's Identity.config.
    """
    by_label: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Served | Unserved):
            by_label.setdefault(outcome.candidate.label, []).append(outcome)
    measured: dict[str, Record] = {}
    stale: dict[str, Record] = {}
    failed: dict[str, Failure] = {}
    outdated, unchecked = set(), dict[str, str]()
    for label, launches in by_label.items():
        today = environments.get(launches[-1].candidate.backend, {})
        own = [o for o in launches if o.identity.config == config]
        newest = _comparable(own, today)[-1:]
        if newest and isinstance(newest[0], Failure):
            failed[label] = newest[0]
            if not _is_current(newest[0], today):
                outdated.add(label)
            continue
        timed = _comparable([o for o in launches if isinstance(o, Measurement)], today)
        if not timed:
            continue
        current = _is_current(timed[-1], today)
        # Stale times stand beside the verdict of the same versions, or beside today's.
        checks = [o for o in own if isinstance(o, Answered) and (_is_current(o, today) or _is_alike(o, timed[-1]))]
        agreement = _verdict(checks) if checks else _unchecked(_origin(timed, own))
        if record := _record(timed, agreement, () if current else _changes(timed[-1], today)):
            (measured if current else stale)[label] = record
            if not checks:
                unchecked[label] = agreement.detail
    return Evidence(measured=measured, stale=stale, failed=failed, outdated=frozenset(outdated), unchecked=unchecked)


def _of_this_shape(cache: Cache, identity: Identity) -> list[Outcome]:
    outcomes = cache.find(
        architecture=identity.architecture,
        quant=identity.quant,
        device=identity.device,
        fingerprint=identity.fingerprint,
        cut=None,
    )
    return [o for o in outcomes if replace(o.identity, cut=identity.cut).shape == identity.shape]


def _comparable(outcomes: Sequence[Kind], today: Mapping[str, str]) -> list[Kind]:
    """The outcomes with today's environment and policy; where there are none, those with the newest outcome's."""
    current = [o for o in outcomes if _is_current(o, today)]
    return current or [o for o in outcomes if _is_alike(o, outcomes[-1])]


def _is_current(outcome: Outcome, today: Mapping[str, str]) -> bool:
    return outcome.policy == POLICY and outcome.environment == today


def _is_alike(one: Outcome, other: Outcome) -> bool:
    return (one.policy, one.environment) == (other.policy, other.environment)


def _verdict(checks: Sequence[Answered]) -> Agreement:
    """The newest verdict; a launch without a reference has none, and counts only where there is no other."""
    compared = [o for o in checks if o.agreement.verdict is not OutputVerdict.UNCHECKED]
    return (compared or checks)[-1].agreement


def _unchecked(detail: str) -> Agreement:
    return Agreement(verdict=OutputVerdict.UNCHECKED, detail=detail)


def _origin(timed: Iterable[Outcome], own: Sequence[Outcome]) -> str:
    """Where the times of a candidate come from whose output was not checked for this config."""
    if own:
        return OTHER_VERSIONS
    return OTHER_MODEL if any(o.identity.config for o in timed) else CONFIG_NOT_KEPT


def _changes(outcome: Outcome, today: Mapping[str, str]) -> tuple[str, ...]:
    policy = [f"measuring policy {outcome.policy} -> {POLICY}"] if outcome.policy != POLICY else []
    return (*differences(outcome.environment, today), *policy)


def _record(measurements: Sequence[Measurement], agreement: Agreement, differences_: tuple[str, ...]) -> Record | None:
    launches = []
    last = None
    for measurement in measurements:
        try:
            cost = fit(points(measurement))
        except ValueError:
            continue  # no cell with a time: an import may hold such a launch
        last = measurement
        launches.append(
            Timed(
                cost=cost,
                cells=_shared(tuple(cell.workload for cell in measurement.cells)),
                calibration_id=measurement.calibration_id,
                round=measurement.round,
                started_at=measurement.started_at,
                memory_bytes=measurement.gpu_memory_bytes or measurement.peak_memory_bytes,
            )
        )
    if last is None:
        return None
    return Record(
        candidate=last.candidate,
        launches=tuple(launches),
        last=last,
        agreement=agreement,
        differences=differences_,
    )


@lru_cache(1024)
def _shared(cells: tuple[Workload, ...]) -> tuple[Workload, ...]:
    return cells
