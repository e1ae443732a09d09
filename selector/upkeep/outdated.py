"""What an upgrade made stale, model by model: what changed, could it change an answer, what measuring it costs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from calibration.cache.cache import Cache
from calibration.conversion.convert import missing
from calibration.conversion.store import ArtifactStore
from calibration.environments.versions import differences
from calibration.errors import AutobackendError, UsageError
from calibration.measurement import Failure, Identity, Outcome
from calibration.registry import all_backends, find
from calibration.rung import Rung
from calibration.workload import Workload
from selector import context as contexts
from selector.demand.demand import Demand
from selector.evidence.evidence import Environments, Evidence, weigh
from selector.host.spec import HostSpec
from selector.planning.plan import Plan, plan
from selector.planning.weights import weights_of
from selector.upkeep.cost import asked_for, launch_s
from selector.upkeep.influence import influences, picks

ROUNDS = 3
"""Launches of a candidate at most, as `calibrate` has it by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleCandidate:
    """A candidate whose newest launches ran with other versions than today's."""

    label: str
    differences: tuple[str, ...]
    """What changed: `openvino-genai 2026.1 -> 2026.2`."""
    launches: int
    failure: str
    """What its newest launch failed by; empty: it was measured."""
    barred: str
    """Why it cannot be launched today; empty: it can."""
    workloads: tuple[str, ...]
    """Whose answer it could change."""
    because: str
    """Why it could: `was the pick`; empty: it could not."""
    seconds: float
    """That measuring it again takes, without its conversion."""
    conversion_s: float
    """0 where its conversion is there, or it has none."""

    @property
    def matters(self) -> bool:
        """Whether it could change an answer."""
        return bool(self.because)

    def to_json(self) -> dict[str, Any]:
        """As `autobackend check --json` prints it."""
        return {
            "candidate": self.label, "differences": list(self.differences), "launches": self.launches,
            "failure": self.failure or None, "barred": self.barred or None, "could_change": self.matters,
            "workloads": list(self.workloads), "because": self.because or None, "seconds": self.seconds,
            "conversion_s": self.conversion_s,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleModel:
    """A model with stale candidates, under the name that it was measured by."""

    model: str
    identity: Identity
    gone: str
    """Why nothing of it can be measured: the folder is not there any more; empty: it can."""
    candidates: tuple[StaleCandidate, ...]
    """All that are stale, those that could change an answer first."""
    leaders: Mapping[str, float]
    """The picks of today that they are measured beside: label, and seconds that this takes."""
    cells: tuple[Workload, ...]
    """That their launches timed."""

    @property
    def mattering(self) -> tuple[StaleCandidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.matters)

    @property
    def seconds(self) -> float:
        """What measuring those that could change an answer takes, beside the picks of today."""
        measured_s = sum(c.seconds + c.conversion_s for c in self.mattering)
        return measured_s + sum(self.leaders.values()) if self.mattering else 0.0

    def demand(self, *, gpu: bool) -> Demand:
        """What a calibration is asked for to measure them: these candidates, on these cells."""
        labels = (*(c.label for c in self.mattering), *self.leaders)
        return Demand(
            workloads=asked_for(self.cells, gpu=gpu),
            backends=labels,
            allow_lossy=any(_is_lossy(label) for label in labels),
            tensor_parallel=self.identity.device_count,
        )

    def to_json(self) -> dict[str, Any]:
        """As `autobackend check --json` prints it."""
        return {
            "model": self.model, "cut": self.identity.cut, "gone": self.gone or None, "seconds": self.seconds,
            "leaders": list(self.leaders), "candidates": [candidate.to_json() for candidate in self.candidates],
        }  # fmt: skip


def stale_models(
    cache: Cache, *, models: Collection[str] = (), host: HostSpec | None = None, store: ArtifactStore | None = None
) -> tuple[StaleModel, ...]:
    """The models of this host that have stale candidates, by name.

    Args:
        models: only these, named as they were when they were measured; empty: all.

    Raises:
        CacheError: the cache cannot be read.
        UsageError: nothing was measured under one of the names.
    """
    here = host or contexts.DEFAULT.host()
    environments = contexts.DEFAULT.environments(here)
    by_shape: dict[tuple[str | int, ...], list[Outcome]] = {}
    named, names = dict[tuple[str, Identity], None](), set[str]()
    for outcome in cache.all(host=here.identifier):
        names.add(outcome.model)
        by_shape.setdefault(outcome.identity.shape, []).append(outcome)
        if not models or outcome.model in models:
            named[outcome.model, outcome.identity] = None
    if unknown := [model for model in models if model not in names]:
        mend = f"measured were: {', '.join(sorted(names))}" if names else f"autobackend calibrate {unknown[0]}"
        raise UsageError(f"nothing was measured here of {', '.join(unknown)}", mend)
    found = [
        stale
        for name, identity in sorted(named, key=lambda key: (key[0], key[1].cut, key[1].config))
        if (stale := _stale_model(name, identity, by_shape[identity.shape], environments, here, store))
    ]
    return tuple(found)


def plan_again(name: str, identity: Identity, labels: Iterable[str], host: HostSpec) -> Plan | str:
    """What a calibration of these candidates would do; or why there cannot be one."""
    backends = all_backends()
    there = [
        label
        for label in labels
        if (parts := label.partition(":"))[0] in backends
        and parts[2] in {variant.name for variant in backends[parts[0]].variants}
    ]
    if not there:
        return "none of its backends is known any more"
    try:
        planned = plan(
            name, Demand(backends=tuple(there), allow_lossy=True, tensor_parallel=identity.device_count), host=host
        )
    except AutobackendError as error:
        return error.message.partition("\n")[0]
    whole = replace(identity, cut="")
    config = {planned.identity.config, ""}
    if planned.identity.shape != whole.shape or whole.config not in config:
        return "another model is there now"
    if identity.cut and Rung.parse(identity.cut).of != planned.spec.layers:
        return f"{identity.cut} are no layers of it"
    return planned


def _stale_model(
    name: str,
    identity: Identity,
    outcomes: Sequence[Outcome],
    environments: Environments,
    host: HostSpec,
    store: ArtifactStore | None,
) -> StaleModel | None:
    known = weigh(outcomes, identity.config, environments)
    labels = [*known.stale, *(label for label in known.failed if label in known.outdated)]
    if not labels:
        return None
    planned = plan_again(name, identity, (*labels, *known.measured), host)
    usable = {} if isinstance(planned, str) else {s.label: s.variant.lossy for s in planned.launch_specs}
    influence = influences(known, usable, host.device.kind)
    workloads = dict.fromkeys(workload for found in influence.values() for workload in found.workloads)
    again = [label for label in labels if label in influence or (label in usable and label in known.failed)]
    launches_s = {n: launch_s(r.last) for n, r in {**known.stale, **known.measured}.items()}
    rounds = max([min(ROUNDS, len(known.stale[n].launches)) for n in again if n in known.stale], default=1)
    unknown_s = sum(launches_s.values()) / len(launches_s) if launches_s else 0.0
    conversions = (
        {}
        if isinstance(planned, str)
        else _conversions_s(planned, identity.cut, again, known, store or ArtifactStore())
    )
    candidates = []
    for label in labels:
        failure, record, found = known.failed.get(label), known.stale.get(label), influence.get(label)
        because = found.because if found else "it failed with other versions" if label in again else ""
        candidates.append(
            StaleCandidate(
                label=label,
                differences=record.differences if record else _changes(failure, environments),
                launches=len(record.launches) if record else 1,
                failure=f"{failure.kind} in {failure.stage}" if failure else "",
                barred=planned if isinstance(planned, str) else _barred(planned, label),
                workloads=found.workloads if found else (),
                because=because,
                seconds=launches_s.get(label, unknown_s) * (rounds if record else 1),
                conversion_s=conversions.get(label, 0.0),
            )
        )
    leaders = picks(known, usable, workloads, host.device.kind)
    return StaleModel(
        model=name,
        identity=identity,
        gone=planned if isinstance(planned, str) else "",
        candidates=tuple(sorted(candidates, key=lambda c: (not c.matters, c.label))),
        leaders={label: launches_s[label] * rounds for label in leaders} if again else {},
        cells=_cells(known, again or labels),
    )


def _is_lossy(label: str) -> bool:
    backend, _, variant = label.partition(":")
    return find(backend).variant(variant).lossy


def _barred(planned: Plan, label: str) -> str:
    """Why a candidate cannot be launched; empty: it can."""
    verdict = next((v for v in planned.verdicts if v.candidate.label == label), None)
    if verdict is None:
        return "its backend is not known any more"
    return verdict.reasons[0].text if verdict.reasons else verdict.left_out


def _conversions_s(
    planned: Plan, cut: str, labels: Collection[str], known: Evidence, store: ArtifactStore
) -> dict[str, float]:
    """Seconds of the conversions that must be made: as long as the candidate's own took, else as is estimated."""
    specs, spec = [s for s in planned.launch_specs if s.label in labels], planned.spec
    weights = weights_of(spec, Rung.parse(cut) if cut else None, random_weights=not spec.has_weights)
    took = {label: record.last.prepare_s for label, record in known.stale.items()}
    lacking = missing(specs, weights.original, store)
    return {label: took.get(label) or expected.seconds for label, expected in lacking.items()}


def _changes(failure: Failure | None, environments: Environments) -> tuple[str, ...]:
    if failure is None:
        return ()
    return tuple(differences(failure.environment, environments.get(failure.candidate.backend, {})))


def _cells(known: Evidence, labels: Iterable[str]) -> tuple[Workload, ...]:
    """The cells of the launches: of most of them, where they differ."""
    records = [known.stale[label] for label in labels if label in known.stale] or list(known.measured.values())
    sets = [tuple(cell.workload for cell in record.last.cells) for record in records]
    return max(sets, key=lambda cells: (sets.count(cells), len(cells)), default=())
