"""What an upgrade made stale of what was measured under load: which candidates, and could they change an answer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from calibration.cache.cache import Cache
from calibration.load.load import Load
from calibration.measurement import Identity, Outcome, OutputVerdict, Served, Unserved
from selector import context as contexts
from selector.demand import Demand
from selector.host.spec import HostSpec
from selector.objective import Objective
from selector.served.evidence import ServedRecord, weigh_served
from selector.served.ranking import rank_served, tied_served

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
    """Those that could change an answer: the best under the load, or as good as it, by their figures of then."""
    lossy: bool
    """One of those is less precise than the model."""
    devices: int

    @property
    def command(self) -> str:
        """What measures all of the load again, that is stale; what is not counts as it is."""
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
    by_model: dict[tuple[str, Identity], list[Outcome]] = {}
    for outcome in cache.all(host=here.identifier):
        if isinstance(outcome, Served | Unserved) and (not models or outcome.model in models):
            by_model.setdefault((outcome.model, outcome.identity), []).append(outcome)
    found = []
    for (model, identity), outcomes in sorted(by_model.items(), key=lambda item: (item[0][0], item[0][1].config)):
        known = weigh_served(outcomes, identity.config, environments)
        loads = {point.load for record in known.stale.values() for launch in record.launches for point in launch.points}
        for load in sorted(loads):
            stale = {label: record for label, record in known.stale.items() if _has(record, load)}
            current = {label: record for label, record in known.measured.items() if _has(record, load)}
            mattering = _mattering({**current, **stale}, set(stale), load, here.device.kind)
            found.append(
                StaleServed(
                    model=model,
                    load=load,
                    candidates={label: record.differences for label, record in stale.items()},
                    mattering=mattering,
                    lossy=any(_is_lossy(stale[label]) for label in mattering),
                    devices=identity.device_count,
                )
            )
    return tuple(found)


def _mattering(
    records: Mapping[str, ServedRecord], stale: Collection[str], load: Load, device_kind: str
) -> tuple[str, ...]:
    """Those of the stale that are the best by an objective, or as good as it: of all, and of the exact ones."""
    exact = [record for record in records.values() if not _is_lossy(record)]
    winners = dict[str, None]()
    for group in (exact, list(records.values())):
        for objective in OBJECTIVES:
            ranking = rank_served(group, load, Demand(workloads=(load,), objective=objective), device_kind=device_kind)
            winners |= dict.fromkeys(one.candidate.label for one in ranking[:1])
            winners |= dict.fromkeys(tied_served(ranking, objective, device_kind=device_kind))
    return tuple(label for label in winners if label in stale)


def _has(record: ServedRecord, load: Load) -> bool:
    return any(point.load == load for launch in record.launches for point in launch.points)


def _is_lossy(record: ServedRecord) -> bool:
    return record.agreement.verdict is OutputVerdict.LOSSY
