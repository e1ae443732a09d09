"""What a host's candidates did as servers under load: a table for each model and load."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

from calibration.load.load import Load
from calibration.measurement import Identity, Served
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.publish.hosts.host_file import HostResults
from selector.screens.served import checked
from selector.screens.text import figure, seconds, size
from selector.served.arms import Way
from selector.served.evidence import weigh_served
from selector.served.ranking import ServedRanked, rank_served

HEAD = ("variant", "tok/s", "TTFT p50", "p95", "TPOT p50", "p95", "output", "threads", "peak memory", "launches")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTable:
    """The candidates that took a load, the one with most tokens a second first."""

    model: str
    identity: Identity
    load: Load
    rows: tuple[tuple[str, ...], ...]
    """As in HEAD."""


def served_tables(host: HostResults) -> tuple[ServedTable, ...]:
    """By model, then by load."""
    by_model: dict[tuple[Identity, str], list[Served]] = {}
    for outcome in sorted(host.outcomes, key=lambda o: o.started_at):
        if isinstance(outcome, Served):
            by_model.setdefault((outcome.identity, outcome.model), []).append(outcome)
    tables = []
    for (identity, model), launches in sorted(by_model.items(), key=lambda item: (item[0][1], item[0][0].config)):
        loads = sorted({point.load for launch in launches for point in launch.points})
        tables += [
            ServedTable(model=model, identity=identity, load=load, rows=tuple(map(_row, ranking)))
            for load in loads
            if (ranking := _ranking(host, identity, launches, load))
        ]
    return tuple(tables)


def _ranking(host: HostResults, identity: Identity, launches: Sequence[Served], load: Load) -> list[ServedRanked]:
    known = weigh_served(launches, identity.config, host.environments)
    records = {**known.stale, **known.measured}
    demand = replace(Demand(workloads=(load,)), objective=Objective.THROUGHPUT)
    ranking = rank_served(records.values(), load, demand, device_kind=host.device_kind)
    return sorted((one for one in ranking if one.way is Way.MEASURED), key=lambda one: one.value)


def _row(one: ServedRanked) -> tuple[str, ...]:
    figures = one.figures
    times = (figures.ttft_p50_s, figures.ttft_p95_s, figures.tpot_p50_s, figures.tpot_p95_s)
    return (
        one.candidate.label,
        figure(figures.output_tps) + (" void" if one.void else ""),
        *map(_time, times),
        checked(one.agreement, one.as_served),
        str(one.threads),
        size(figures.memory_bytes),
        str(len(one.launches)),
    )


def _time(value: float) -> str:
    """An answer that comes whole has no TPOT."""
    return (seconds(value) if value else "-") if isfinite(value) else "saturated"
