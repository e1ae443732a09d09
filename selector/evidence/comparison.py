"""Compare ranked candidates: how many times longer one takes than another, and which are as fast as each other."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from calibration.noise import interval
from calibration.race.bounds import BAND
from selector.demand.objective import Objective
from selector.evidence.ranking import Ranked


class Ratio(NamedTuple):
    """How many times longer one candidate takes than another, with the 95 % interval."""

    value: float
    low: float
    high: float


def tied(first: Ranked, others: Iterable[Ranked], objective: Objective = Objective.LATENCY) -> tuple[str, ...]:
    """Labels of the candidates as good as `first`: within BAND of it, or with 1 inside the interval of the ratio.

    Where targets were given, only candidates that meet them are as good as another.
    """
    both = (other for other in others if first.meets and other.meets)
    return tuple(other.candidate.label for other in both if _same(first, other, objective))


def ratio(slow: Ranked, fast: Ranked, objective: Objective = Objective.LATENCY) -> Ratio:
    """How many times more `slow` takes of what the objective wants small.

    The two are compared within rounds, where a drift of the machine hits both. Where they share no round, their medians
    are compared, and the interval is that of two independent medians.
    """
    slow, fast = _comparable(slow, fast)
    of_launch = objective.of_launch
    if of_launch is None:
        value = objective.of(slow) / objective.of(fast)
        return Ratio(value, value, value)
    turns = {launch.turn: of_launch(*times) for launch, times in zip(fast.launches, fast.times, strict=True)}
    own = [(launch.turn, of_launch(*times)) for launch, times in zip(slow.launches, slow.times, strict=True)]
    ratios = [time / turns[turn] for turn, time in own if turn in turns]
    if ratios:
        return Ratio(median(ratios), *interval(ratios, slow.spread.ratio_cv))
    slow_times, fast_times = [time for _, time in own], list(turns.values())
    low, high = interval(slow_times, slow.spread.launch_cv)
    least, most = interval(fast_times, fast.spread.launch_cv)
    return Ratio(median(slow_times) / median(fast_times), low / most, high / least)


def median_ratio(slow: Ranked, fast: Ranked, objective: Objective) -> float:
    """The same by the medians alone, as they rank."""
    one, other = _comparable(slow, fast)
    return objective.of(one) / objective.of(other)


def _same(first: Ranked, other: Ranked, objective: Objective) -> bool:
    values = [objective.of(ranked) for ranked in _comparable(first, other)]
    if max(values) <= min(values) * (1 + BAND):
        return True
    if objective.of_launch is None:
        return False
    times_longer = ratio(other, first, objective)
    return times_longer.low <= 1.0 <= times_longer.high


def _comparable(one: Ranked, other: Ranked) -> tuple[Ranked, Ranked]:
    """Both at the batch that ranks them, where that is the same; else at the workload's own."""
    if one.ranked_by.workload == other.ranked_by.workload:
        return one.ranked_by, other.ranked_by
    return one, other
