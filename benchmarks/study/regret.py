"""What a choice cost: one candidate's time over the best one's, from cells that were timed in two passes. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

PASSES = (1, 2)
GOAL_GEOMEAN, GOAL_WORST = 1.01, 1.05
NEAR = 1.5
"""A candidate that is more than NEAR times slower is not the best: two launches of one candidate differ by less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was timed and what was picked, for one model, one workload and one class of precision."""

    model: str
    workload: str
    times: Mapping[str, Mapping[int, float]]
    """Candidate label, pass: seconds end to end."""
    pick: str | None
    """Label that `select` chose; None where it chose none."""
    left_out: Mapping[str, float] = field(default_factory=dict)
    """Label of a candidate that was not timed here: how many times slower than the best the calibration predicts it."""

    @property
    def rivals(self) -> Mapping[str, tuple[float, ...]]:
        """Candidates that were timed in every pass, with all their times; without any, those of the first pass."""
        whole = {label: tuple(t[p] for p in PASSES) for label, t in self.times.items() if set(PASSES) <= t.keys()}
        return whole or self._once(self.times)

    @property
    def compared(self) -> Mapping[str, tuple[float, ...]]:
        """The rivals, and those that the first pass showed to be slow, with the time of their only pass."""
        return {**self._once(slower(self.times)), **self.rivals}

    @property
    def best(self) -> str:
        """Raises ValueError where nothing was timed."""
        return min(self.rivals, key=self.seconds)

    def _once(self, labels: Iterable[str]) -> dict[str, tuple[float, ...]]:
        return {label: (self.times[label][PASSES[0]],) for label in labels if PASSES[0] in self.times[label]}

    def seconds(self, label: str) -> float:
        """A candidate's time: the geometric mean of its passes, or that of its only one.

        Raises:
            KeyError: it was not timed.
        """
        return geomean(self.compared[label])

    @property
    def answered(self) -> bool:
        """Whether the pick was timed, so that its cost is known."""
        return self.pick is not None and self.pick in self.rivals


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The geometric mean and the worst of some ratios."""

    geomean: float
    worst: float
    n: int

    @classmethod
    def of(cls, ratios: Iterable[float]) -> "Summary | None":
        """None where there is no ratio."""
        values = list(ratios)
        return cls(geomean=geomean(values), worst=max(values), n=len(values)) if values else None

    @property
    def met(self) -> bool:
        """The goal of the study."""
        return self.geomean <= GOAL_GEOMEAN and self.worst <= GOAL_WORST


@dataclass(frozen=True, slots=True, kw_only=True)
class Always:
    """What taking the same candidate, or the best variant of the same backend, would have cost."""

    name: str
    over_best: Summary | None
    """None where it was timed nowhere."""
    over_pick: float | None
    """Geometric mean of its time over the pick's, on the cells where both were timed."""
    cells: int
    """Of the class."""
    left_out: tuple[float, ...]
    """Predicted factors of the cells where nothing of it was timed since all of it was predicted so slow."""


def geomean(values: Sequence[float]) -> float:
    """Of positive values, at least one."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def regret(case: Case) -> float:
    """The pick's time over the best candidate's, at least 1; the best is the best of both passes, luck included."""
    assert case.pick is not None
    return case.seconds(case.pick) / case.seconds(case.best)


def crossed(case: Case) -> tuple[float, ...]:
    """The pick's time over that of the best of the other pass: luck that made it the best does not help it here.

    Below 1 where the other pass's best is slower than the pick. One ratio a pass; empty with one pass only.
    """
    assert case.pick is not None
    times = case.rivals
    ratios = []
    for chosen_on, judged_on in permutations(range(len(times[case.pick])), 2):
        best = min(times, key=lambda label: times[label][chosen_on])
        ratios.append(times[case.pick][judged_on] / times[best][judged_on])
    return tuple(ratios)


def slower(times: Mapping[str, Mapping[int, float]]) -> list[str]:
    """Candidates that took more than NEAR times as long as the best in the first pass, and so cannot be the best."""
    first = {label: passes[PASSES[0]] for label, passes in times.items() if PASSES[0] in passes}
    return [label for label, seconds in first.items() if seconds > NEAR * min(first.values())]


def repeated(times: Sequence[float]) -> float:
    """How many times longer the slower pass took than the quicker one."""
    return max(times) / min(times)


def beyond_noise(case: Case) -> float:
    """The regret divided by how much the pick or the best differs from itself between the passes, but at least 1."""
    assert case.pick is not None
    noise = max(repeated(case.rivals[label]) for label in (case.pick, case.best))
    return max(1.0, regret(case) / noise)


def noise(cases: Iterable[Case]) -> Summary | None:
    """How much candidates differ from themselves between the passes, over all that was timed in both."""
    repeats = {
        (case.model, case.workload, label): repeated(times)
        for case in cases
        for label, times in case.rivals.items()
        if len(times) > 1
    }
    return Summary.of(repeats.values())


def picked(cases: Iterable[Case], ratio: Callable[[Case], float]) -> Summary | None:
    """A ratio over the cells whose pick was timed."""
    return Summary.of(ratio(case) for case in cases if case.answered)


def cross_judged(cases: Iterable[Case]) -> Summary | None:
    """`crossed` over the cells whose pick was timed, every pass a ratio of its own."""
    return Summary.of(ratio for case in cases if case.answered for ratio in crossed(case))


def always(cases: Sequence[Case]) -> tuple[Always, ...]:
    """Every backend (by its best variant of each cell, known in hindsight) and every variant; the cheapest first."""
    labels = {label for case in cases for label in (*case.times, *case.left_out)}
    names = {label.partition(":")[0] for label in labels} | labels
    rows = [_always(name, cases) for name in names]
    return tuple(sorted(rows, key=lambda a: (a.over_best.geomean if a.over_best else math.inf, a.name)))


def _always(name: str, cases: Sequence[Case]) -> Always:
    over_best, over_pick, left_out = [], [], []
    for case in cases:
        mine = [label for label in case.compared if name in {label, label.partition(":")[0]}]
        if mine:
            seconds = min(map(case.seconds, mine))
            over_best.append(seconds / case.seconds(case.best))
            if case.answered:
                assert case.pick is not None
                over_pick.append(seconds / case.seconds(case.pick))
        elif factors := [f for label, f in case.left_out.items() if name in {label, label.partition(":")[0]}]:
            left_out.append(min(factors))
    return Always(
        name=name,
        over_best=Summary.of(over_best),
        over_pick=geomean(over_pick) if over_pick else None,
        cells=len(cases),
        left_out=tuple(left_out),
    )


def slow(predicted: Mapping[str, float], lossy: Iterable[str], factor: float) -> dict[str, float]:
    """Candidates that need not be timed: by the prediction they can neither be the best nor stand for a backend.

    Args:
        predicted: candidate label: seconds.
        lossy: labels that compete only where lossy ones are allowed; the others compete among themselves, too. A
            candidate that is at most NEAR times slower than the best of a class may be its best.
        factor: the first of a backend is timed where it is at most so many times slower than the best.

    Returns:
        Label: how many times slower than the best of its own class.
    """
    less_precise = set(lossy)
    exact = {label: seconds for label, seconds in predicted.items() if label not in less_precise}
    timed = set()
    for competing in (exact, predicted):
        least: dict[str, float] = {}
        for label, seconds in competing.items():
            name = label.partition(":")[0]
            least[name] = min(seconds, least.get(name, math.inf))
        for label, seconds in competing.items():
            ratio = seconds / min(least.values())
            if ratio <= NEAR or (ratio <= factor and seconds == least[label.partition(":")[0]]):
                timed.add(label)
    return {
        label: seconds / min((predicted if label in less_precise else exact).values())
        for label, seconds in predicted.items()
        if label not in timed
    }
