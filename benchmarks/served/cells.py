"""Cells of the study: a model under a load in a class of precision, in two halves; and what a choice there costs.

What chooses is never what judges: a choice that is made by the launches of one half is judged by those of the other.
Else noise makes the best: of two candidates that are equal, the one that was lucky is chosen, and its luck is counted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from benchmarks.served.recorded import OBJECTIVE, Recorded
from benchmarks.study.regret import repeated
from calibration.load.load import Load
from calibration.measurement import Served
from selector.demand.demand import Demand
from selector.demand.targets import Targets
from selector.served.arms import Way, arms_of
from selector.served.evidence import ServedRecord
from selector.served.ranking import rank_served

HALVES = (1, 2)
CLASSES = {"equal precision": False, "lossy ones allowed": True}
"""Class of precision: whether lossy candidates are allowed."""

Turn = tuple[str, int]
"""Calibration and round: launches of a turn ran close to each other in time."""
Chosen = Mapping[int, str]
"""Half: the label that is chosen by its launches, or without any launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model under one load, in one class of precision."""

    host: str
    model: str
    load: Load
    precision: str
    times: Mapping[str, Mapping[int, float]]
    """Candidate label, half: seconds a token of all streams together, the median of the half's launches."""
    picks: Chosen = field(default_factory=dict)
    """What `select` answers by the launches of a half alone."""
    told: Chosen = field(default_factory=dict)
    """The same where none of them took this load: by the numbers of streams around it. Of the levels between others."""
    without: Mapping[str, str] = field(default_factory=dict)
    """By what `select` goes where nothing was served: its answer."""

    def fastest(self, half: int) -> str | None:
        """The label with the least time in a half; None where nothing was served in it."""
        timed = {label: times[half] for label, times in self.times.items() if half in times}
        return min(timed, key=lambda label: timed[label]) if timed else None


def cells_of(recorded: Recorded) -> list[Cell]:
    """All loads and classes of a model on a host."""
    return [
        _cell(recorded, load, name, lossy=lossy)
        for name, lossy in CLASSES.items()
        if recorded.allowed(lossy=lossy)
        for load in recorded.loads
    ]


def over(cell: Cell, chosen: Chosen, other: Chosen) -> tuple[float, ...]:
    """How many times as long one choice takes as another: both made by one half, judged by the other half.

    Returns:
        A ratio for each half in which both were served.
    """
    ratios = []
    for judge in HALVES:
        by = _opposite(judge)
        mine, others = (cell.times.get(choice.get(by, ""), {}).get(judge) for choice in (chosen, other))
        if mine is not None and others is not None:
            ratios.append(mine / others)
    return tuple(ratios)


def over_best(cell: Cell) -> tuple[float, ...]:
    """The pick of one half over the best of the other, as that other half measured them; at least 1.

    The best is chosen by what judges it, luck included, so this is more than the pick costs.
    """
    return over(cell, cell.picks, _in_hindsight(cell))


def beyond_noise(cell: Cell) -> tuple[float, ...]:
    """The same divided by how much the pick or the best differs from itself between the halves, but at least 1."""
    ratios = []
    for judge in HALVES:
        pick, best = cell.picks.get(_opposite(judge)), cell.fastest(judge)
        if pick and best and judge in cell.times.get(pick, {}):
            ratio = cell.times[pick][judge] / cell.times[best][judge]
            noise = [repeated(list(cell.times[label].values())) for label in (pick, best)]
            ratios.append(max(1.0, ratio / max(noise)))
    return tuple(ratios)


def always(cell: Cell, name: str) -> Chosen:
    """A variant; or the variant of a backend that does best in a half, which favours the backend.

    A variant that was served in one half only stands for that half in both.
    """
    mine = {label: times for label, times in cell.times.items() if name in {label, label.partition(":")[0]} and times}
    chosen = {}
    for half in HALVES:
        known = {label: times[half] for label, times in mine.items() if half in times}
        timed = known or {label: min(times.values()) for label, times in mine.items()}
        if timed:
            chosen[half] = min(timed, key=lambda label: timed[label])
    return chosen


def names_of(cells: Iterable[Cell]) -> list[str]:
    """Every backend and every variant that was served, sorted; a backend with one variant has its variant alone."""
    labels = {label for cell in cells for label, times in cell.times.items() if times}
    backends = [label.partition(":")[0] for label in labels]
    return sorted(labels | {name for name in backends if backends.count(name) > 1})


def differences(cells: Iterable[Cell]) -> list[float]:
    """How many times longer the slower half of a candidate took than the quicker one, each once."""
    repeats = {
        (cell.host, cell.model, cell.load, label): repeated(list(times.values()))
        for cell in cells
        for label, times in cell.times.items()
        if len(times) > 1
    }
    return list(repeats.values())


def _opposite(half: int) -> int:
    return HALVES[half % len(HALVES)]


def _in_hindsight(cell: Cell) -> Chosen:
    """For each half that judges, under the half that would have chosen: the best by the judge itself."""
    return {_opposite(half): best for half in HALVES if (best := cell.fastest(half))}


def _cell(recorded: Recorded, load: Load, precision: str, *, lossy: bool) -> Cell:
    records = recorded.allowed(lossy=lossy)
    halves = _halves(recorded.records, load)
    values = {record.candidate.label: _seconds(record, load) for record in records}
    times: dict[str, dict[int, float]] = {}
    for label, by_turn in values.items():
        for half in HALVES:
            if taken := [value for turn, value in by_turn.items() if halves[turn] == half]:
                times.setdefault(label, {})[half] = median(taken)

    def answer(half: int, *, blind: bool) -> str | None:
        return _pick(recorded, records, load, lambda launch: halves.get(_turn(launch)) == half, blind=blind)

    picks = {half: answer(half, blind=False) for half in HALVES}
    inner = load not in (recorded.loads[0], recorded.loads[-1])
    told = {half: answer(half, blind=True) for half in HALVES} if inner else {}
    return Cell(
        host=recorded.host,
        model=recorded.name,
        load=load,
        precision=precision,
        times=times,
        picks={half: label for half, label in picks.items() if label},
        told={half: label for half, label in told.items() if label},
        without=recorded.without.get((load, lossy), {}),
    )


def _halves(records: Sequence[ServedRecord], load: Load) -> dict[Turn, int]:
    """Of the turns in which anybody took the load: the first is one half, all later ones are the other, since a race
    serves everybody in its first round, and then those that may be the best.
    """
    begins: dict[Turn, float] = {}
    for record in records:
        for launch in record.launches:
            if any(point.load == load for point in launch.points):
                turn = _turn(launch)
                begins[turn] = min(launch.started_at, begins.get(turn, launch.started_at))
    ordered = sorted(begins, key=lambda turn: (begins[turn], turn))
    return {turn: HALVES[0] if turn == ordered[0] else HALVES[1] for turn in ordered}


def _turn(launch: Served) -> Turn:
    return launch.calibration_id, launch.round


def _seconds(record: ServedRecord, load: Load) -> dict[Turn, float]:
    """Seconds a token in each turn, with the number of threads that does best; void launches where there are no
    others.
    """
    value = Demand.of(objective=OBJECTIVE).objective.of
    arms = [arm for arm in arms_of(record, load, Targets()) if arm.way is Way.MEASURED]
    of_arms = [{launch.turn: value(launch.figures) for launch in arm.launches} for arm in arms]
    return min(of_arms, key=lambda values: median(values.values()), default=dict[Turn, float]())


def _pick(
    recorded: Recorded, records: Sequence[ServedRecord], load: Load, counts: Callable[[Served], bool], *, blind: bool
) -> str | None:
    """What `select` answers for the load by the launches that count: by the same ranking.

    Args:
        blind: none of them is taken to have served this load.
    """
    known = []
    for record in records:
        launches = [_blinded(launch, load) if blind else launch for launch in record.launches if counts(launch)]
        if launches := [launch for launch in launches if launch.points]:
            known.append(replace(record, launches=tuple(launches)))
    demand = Demand.of(workload=load, objective=OBJECTIVE)
    ranking = rank_served(known, load, demand, device_kind=recorded.device_kind)
    return ranking[0].candidate.label if ranking else None


def _blinded(launch: Served, load: Load) -> Served:
    return replace(launch, points=tuple(point for point in launch.points if point.load != load))
