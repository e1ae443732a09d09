"""Whether a stale candidate could change an answer: by its times and their intervals it may be the pick again."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from calibration.race.bounds import BAND
from calibration.workload import STANDARD, Workload
from selector.demand.demand import Demand
from selector.evidence.comparison import ratio
from selector.evidence.evidence import Evidence
from selector.evidence.ranking import Ranked, Record, rank

LOSSY_ALLOWED = ", lossy allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """The answers that a stale candidate could change."""

    workloads: tuple[str, ...]
    """Labels; with `, lossy allowed` where only that answer could change."""
    because: str
    """`was the pick`, `may be as fast as openvino:fp16-pa`."""


def influences(known: Evidence, usable: Mapping[str, bool], device_kind: str) -> dict[str, Influence]:
    """The stale candidates that could change an answer.

    A candidate could where it was the pick before the upgrade, or where the interval of its times beside the pick of
    today reaches the band. Where nothing was measured with today's versions, the pick of before takes its place.

    Args:
        usable: labels of the candidates that can be launched today, in the static order: is each lossy.
    """
    found: dict[str, dict[str, str]] = {}
    for workload in _workloads((*known.stale.values(), *known.measured.values())):
        for lossy in (False, True):
            records = {**known.stale, **known.measured}
            able = {n: records[n] for n in usable if n in records and (lossy or not usable[n])}
            for label, because in _could_win(able, known.measured, workload, device_kind):
                told = found.setdefault(label, {})
                if workload.label not in told:
                    told[f"{workload.label}{LOSSY_ALLOWED}" if lossy else workload.label] = because
    return {
        label: Influence(workloads=tuple(told), because=next(iter(dict.fromkeys(told.values()))))
        for label, told in found.items()
    }


def picks(known: Evidence, usable: Mapping[str, bool], workloads: Collection[str], device_kind: str) -> list[str]:
    """Labels of the candidates that answer for these workloads by what was measured with today's versions."""
    found = dict[str, None]()
    for text in workloads:
        workload, lossy = Workload.parse(text.removesuffix(LOSSY_ALLOWED)), text.endswith(LOSSY_ALLOWED)
        able = [r for n in usable if (r := known.measured.get(n)) and (lossy or not usable[n])]
        found |= dict.fromkeys(r.candidate.label for r in _rank(able, workload, device_kind)[:1])
    return list(found)


def _could_win(
    able: Mapping[str, Record], measured: Mapping[str, Record], workload: Workload, device_kind: str
) -> Iterable[tuple[str, str]]:
    """Labels of the stale candidates that could answer for a workload, and why."""
    ranking = _rank(able.values(), workload, device_kind)
    if not ranking or not ranking[0].covered:
        return
    today = _rank([r for n, r in able.items() if n in measured], workload, device_kind)
    # Of all candidates at once, so that both are valued at the same batch.
    leader = next(r for r in ranking if r.candidate == (today or ranking)[0].candidate)
    for ranked in ranking:
        label = ranked.candidate.label
        if label in measured:
            continue
        if ranked is ranking[0]:
            yield label, "was the pick"
        elif ratio(ranked, leader).low <= 1 + BAND:
            yield label, f"may be as fast as {leader.candidate.label}"


def _rank(records: Iterable[Record], workload: Workload, device_kind: str) -> tuple[Ranked, ...]:
    return rank(records, Demand(workloads=(workload,)), device_kind=device_kind)


def _workloads(records: Iterable[Record]) -> list[Workload]:
    """The standard workloads, and the cells that were timed."""
    cells = {cell for record in records for launch in record.launches for cell in launch.cells}
    return list(dict.fromkeys((*STANDARD.values(), *sorted(cells, key=lambda cell: cell.label))))
