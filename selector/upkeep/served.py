"""What an upgrade made stale of what was measured under load: which candidates, and could they change an answer."""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from calibration.cache.cache import Cache
from calibration.load.load import Load
from calibration.measurement import Identity, Outcome, OutputVerdict, Served, Unserved
from calibration.served.recall import recalled
from calibration.served.standings import LEAST_ROUNDS
from selector import context as contexts
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.evidence import Environments
from selector.host.spec import HostSpec
from selector.planning.plan import Plan
from selector.served.evidence import ServedRecord, weigh_served
from selector.served.ranking import ServedRanked, rank_served, tied_served
from selector.upkeep.outdated import plan_again

OBJECTIVES = (Objective.THROUGHPUT, Objective.LATENCY, Objective.TTFT)
"""That an answer for a load is asked by; goodput is between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleServed:
    """Candidates that took a load with other versions than today's."""

    model: str
    load: Load
    candidates: Mapping[str, tuple[str, ...]]
    """Label: what changed since, as in `vllm 0.32.0 -> 0.33.0`."""
    mattering: tuple[str, ...]
    """Those that could change an answer: the best under the load, or as good as it, by their figures of then. Only such
    as can be launched today."""
    leaders: tuple[str, ...]
    """The best of those that took it with today's versions, beside whom they are measured again."""
    lossy: bool
    """One of those to be measured is less precise than the model."""
    devices: int
    launches: int
    """That took it with other versions."""
    seconds: float
    """What measuring those that could change an answer takes at the least, beside the leaders."""
    gone: str = ""
    """Why nothing of the model can be measured; empty: it can."""
    kept: bool = True
    """Its requests are known; those of a trace are where a launch was sent all of them."""

    @property
    def demand(self) -> Demand:
        """What a calibration is asked for to measure them."""
        return Demand(
            workloads=(self.load,),
            backends=(*self.mattering, *self.leaders),
            allow_lossy=self.lossy,
            tensor_parallel=self.devices,
        )

    @property
    def command(self) -> str:
        """What measures all of the load again, that is stale; what is not counts as it is."""
        if not self.kept:
            return f"{shlex.join(['autobackend', 'calibrate', self.model])} --trace FILE"
        return Demand(workloads=(self.load,), allow_lossy=self.lossy, tensor_parallel=self.devices).command(
            "calibrate", self.model
        )

    def to_json(self) -> dict[str, Any]:
        """As `autobackend check --json` prints it."""
        return {
            "model": self.model,
            "workload": self.load.label,
            "candidates": {label: list(changes) for label, changes in self.candidates.items()},
            "could_change": list(self.mattering),
            "leaders": list(self.leaders),
            "seconds": self.seconds,
            "gone": self.gone or None,
            "command": self.command,
        }


def stale_served(
    cache: Cache, *, models: Collection[str] = (), host: HostSpec | None = None
) -> tuple[StaleServed, ...]:
    """The loads of this host that were measured with other versions, by model and load.

    Args:
        models: only these, named as they were when they were measured; empty: all.

    Raises:
        CacheError: the cache cannot be read.
    """
    here = host or contexts.DEFAULT.host()
    environments = contexts.DEFAULT.environments(here)
    by_shape: dict[tuple[str | int, ...], list[Outcome]] = {}
    named = dict[tuple[str, Identity], None]()
    for outcome in cache.all(host=here.identifier):
        if isinstance(outcome, Served | Unserved):
            by_shape.setdefault(outcome.identity.shape, []).append(outcome)
            if not models or outcome.model in models:
                named[outcome.model, outcome.identity] = None
    return tuple(
        stale
        for model, identity in sorted(named, key=lambda key: (key[0], key[1].config))
        for stale in _stale_loads(model, identity, by_shape[identity.shape], environments, here)
    )


def _stale_loads(
    model: str, identity: Identity, outcomes: Sequence[Outcome], environments: Environments, host: HostSpec
) -> Iterable[StaleServed]:
    """What is stale of a model, by load.

    Args:
        outcomes: launches under load of all models of its shape, whose times it shares.
    """
    known, kind = weigh_served(outcomes, identity.config, environments), host.device.kind
    if not known.stale:
        return
    planned = plan_again(model, identity, (*known.stale, *known.measured), host)
    gone = planned if isinstance(planned, str) else _without_weights(planned)
    specs = () if isinstance(planned, str) or gone else planned.launch_specs
    usable = {spec.label: spec.variant.lossy for spec in specs}
    for load in sorted({point.load for record in known.stale.values() for o in record.launches for point in o.points}):
        stale = {label: record for label, record in known.stale.items() if _took(record, load)}
        current = {n: r for n, r in known.measured.items() if n in usable and _took(r, load)}
        able = {**current, **{label: record for label, record in stale.items() if label in usable}}
        mattering = tuple(label for label in _best(able, load, kind, tied=True) if label in stale)
        leaders = _best(current, load, kind, tied=False) if mattering else ()
        yield StaleServed(
            model=model,
            load=load,
            candidates={label: record.differences for label, record in stale.items()},
            mattering=mattering,
            leaders=leaders,
            lossy=any(usable[label] for label in (*mattering, *leaders)),
            devices=identity.device_count,
            launches=sum(len(_took(record, load)) for record in stale.values()),
            seconds=LEAST_ROUNDS * sum(_launch_s(able[label], load) for label in (*mattering, *leaders)),
            gone=gone,
            kept=not load.trace or recalled(load, outcomes) is not None,
        )


def _without_weights(planned: Plan) -> str:
    """Why a model cannot be served; empty: it can."""
    spec = planned.spec
    return "" if spec.has_weights or spec.name.startswith("shape:") else "its weights are not there any more"


def _best(records: Mapping[str, ServedRecord], load: Load, device_kind: str, *, tied: bool) -> tuple[str, ...]:
    """Labels of the best by any objective, of all and of the exact ones.

    Args:
        tied: those that are as good as the best, too.
    """
    exact = [record for record in records.values() if not _is_lossy(record)]
    winners = dict[str, None]()
    for group in (exact, list(records.values())):
        for objective in OBJECTIVES:
            ranking = rank_served(group, load, Demand(workloads=(load,), objective=objective), device_kind=device_kind)
            winners |= dict.fromkeys(_first(ranking))
            winners |= dict.fromkeys(tied_served(ranking, objective, device_kind=device_kind) if tied else ())
    return tuple(winners)


def _first(ranking: Sequence[ServedRanked]) -> list[str]:
    return [one.candidate.label for one in ranking[:1]]


def _took(record: ServedRecord, load: Load) -> list[Served]:
    """The launches that took a load."""
    return [launch for launch in record.launches if any(point.load == load for point in launch.points)]


def _launch_s(record: ServedRecord, load: Load) -> float:
    """What a launch takes: until the server is ready, and under the load."""
    return median(
        launch.load_s + point.end_s for launch in _took(record, load) for point in launch.points if point.load == load
    )


def _is_lossy(record: ServedRecord) -> bool:
    return record.agreement.verdict is OutputVerdict.LOSSY
