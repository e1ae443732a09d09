"""Who is served next, who is out, and when it is over: decisions on what was measured, no clock, no process.

What is compared is an arm: a candidate with so many threads. Arms are compared within rounds, by the ratios of their
values, so that a slow drift of the machine hits both sides of a ratio; as in race.decisions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf, isfinite, log
from statistics import NormalDist, median

from calibration.noise import interval, ratio_cv
from calibration.race.bounds import BAND, SURE

LEAST_ROUNDS = 2
"""Launches of the leaders at least: two launches differ by more than anything within one."""
DISTURBED = 3.1
"""Times by which one busy process slows an engine that has as many threads as there are cores, at most: measured on two
cores with five engines (1.4 to 3.1)."""
LEADERS = 2
"""So many are measured at other levels, too."""

_NORMAL = NormalDist()
_Z95 = _NORMAL.inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Arm:
    """A candidate as it is served."""

    label: str
    threads: int

    def __str__(self) -> str:
        return f"{self.label} with {self.threads} thread{'s' * (self.threads != 1)}"


Values = Mapping[str, float]
"""By the label of a load: what a launch reached of the objective; less is better, and infinite is not at all."""

History = Mapping[Arm, Mapping[int, Values]]
"""Of each arm, by round: its values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """Where the arms stand after some rounds.

    Args:
        lossy: labels; the others compete among themselves, too, since a user who allows no lossy one must find their
            best.
        doubtful: arms all of whose launches were disturbed.
    """

    history: History
    loads: tuple[str, ...]
    """Labels of what was asked for."""
    lossy: frozenset[str]
    device_kind: str
    doubtful: frozenset[Arm] = frozenset()
    sure: float = SURE
    """An arm is out, and the race over, where that is right with this probability."""
    full: bool = False
    """Nobody is out, and all rounds are served."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Label of a load: what screens call it."""

    def ordered(self) -> list[Arm]:
        """Those that were launched, the best for the first load first."""
        return sorted(self.history, key=lambda arm: self._place(arm, self.loads[0]))

    def leaders(self) -> list[Arm]:
        """The best for each load, of all and of those that are not lossy; each once."""
        return list(dict.fromkeys(best for best, _, _ in self._bests()))

    @property
    def sureness(self) -> float:
        """The probability that each leader is within the band of the best, for every load; 0 where there is none."""
        return min((self._sureness(best, group, load) for best, group, load in self._bests()), default=0.0)

    def out(self) -> dict[Arm, str]:
        """Who cannot be within the band of the best any more, and why."""
        reasons = {}
        leaders = set(self.leaders())
        for arm in self.history:
            if arm in leaders or self.full:
                continue
            # A lossy arm is beaten by any; one that is not by another that is not.
            rivals = [other for other in leaders if arm.label in self.lossy or other.label not in self.lossy]
            beaten_by = [other for other in rivals if all(self._beaten(arm, other, load) for load in self.loads)]
            if beaten_by:
                ratio = self._ratio(arm, beaten_by[0], self.loads[0])
                times = f"{ratio[0]:.2f} times worse than" if ratio[0] < inf else "not as good as"
                reasons[arm] = f"{times} {beaten_by[0]} for {self.titles.get(self.loads[0], self.loads[0])}"
        return reasons

    def over(self, standing: Sequence[Arm], rounds: int, most: int) -> str:
        """Why it is over after so many rounds; empty while it goes on.

        A leader that was launched once only has one round more.

        Args:
            standing: who is still in.
            most: rounds, and so launches of an arm.
        """
        if not standing:
            return "none left"
        if rounds > most or (rounds == most and not self.short(most)):
            return "rounds"
        if self.full or rounds < min(LEAST_ROUNDS, most) or self.short(most):
            return ""
        groups = [group for group in self._groups(standing) if group]
        if all(len(group) == 1 for group in groups):
            return "one left"
        if all(self._tied(group) for group in groups):
            return "tied"
        return "sure" if self.sureness >= self.sure else ""

    def short(self, most: int) -> list[Arm]:
        """The leaders that were launched too seldom to be believed: with another number of threads, or late."""
        return [arm for arm in self.leaders() if len(self.history[arm]) < min(LEAST_ROUNDS, most)]

    def _bests(self) -> Iterator[tuple[Arm, list[Arm], str]]:
        """The best of each group for each load, with the group and the load."""
        for group in self._groups():
            for load in self.loads:
                known = [arm for arm in group if self._middle(arm, load) < inf]
                if known:
                    yield min(known, key=partial(self._place, load=load)), group, load

    def _groups(self, arms: Sequence[Arm] | None = None) -> list[list[Arm]]:
        """Those that are not lossy, and all, where these are not the same."""
        every = list(self.history if arms is None else arms)
        exact = [arm for arm in every if arm.label not in self.lossy]
        return [exact, every] if exact and len(exact) < len(every) else [every]

    def _sureness(self, best: Arm, group: Sequence[Arm], load: str) -> float:
        """That no arm is better than the best by more than the band.

        All ratios share the noise of the best, so what makes one of them wrong makes the others wrong as well: the
        product of their probabilities is the least that the probability of all can be (Slepian 1962).
        """
        sureness = 1.0
        for arm in group:
            if arm != best:
                sureness *= 1.0 - self._chance_to_lead(arm, best, load)
        return sureness

    def _chance_to_lead(self, arm: Arm, best: Arm, load: str) -> float:
        """The probability that an arm is better than the best by more than the band; a ratio's logarithm is normal."""
        ratio, (low, high) = self._ratio(arm, best, load)
        if not isfinite(ratio) or ratio <= 0.0:
            return 0.0 if ratio > 0.0 else 1.0
        disturbed = log(DISTURBED) if {arm, best} & self.doubtful else 0.0
        deviation = max(1e-9, log(high / low) / (2 * _Z95))
        return _NORMAL.cdf((disturbed - log(ratio) - log(1.0 + BAND)) / deviation)

    def _tied(self, group: Sequence[Arm]) -> bool:
        first = min(group, key=lambda arm: self._middle(arm, self.loads[0]))
        bounds = [self._bounds(arm, first, load) for arm in group if arm != first for load in self.loads]
        return all(low >= 1.0 / (1.0 + BAND) and high <= 1.0 + BAND for low, high in bounds)

    def _beaten(self, slow: Arm, fast: Arm, load: str) -> bool:
        ratio, _ = self._ratio(slow, fast, load)
        low, _ = self._bounds(slow, fast, load)
        if slow in self.doubtful or fast in self.doubtful:
            return isfinite(ratio) and low > 1.0 + BAND and ratio > DISTURBED
        return low > 1.0 + BAND or ratio == inf

    def _bounds(self, one: Arm, other: Arm, load: str) -> tuple[float, float]:
        """The interval that holds the ratio of their values with the probability that is asked for."""
        ratio, (low, high) = self._ratio(one, other, load)
        if not isfinite(ratio) or ratio <= 0.0:
            return low, high
        times = _NORMAL.inv_cdf((1.0 + self.sure) / 2.0) / _Z95
        return ratio * (low / ratio) ** times, ratio * (high / ratio) ** times

    def _ratio(self, one: Arm, other: Arm, load: str) -> tuple[float, tuple[float, float]]:
        """The median of the ratios of their values in the rounds that they share, and its 95 % interval."""
        mine, others = self._by_round(one, load), self._by_round(other, load)
        if not mine or not isfinite(median(mine.values())):
            return inf, (inf, inf)
        if not others or not isfinite(median(others.values())):
            return 0.0, (0.0, 0.0)
        shared = [mine[number] / others[number] for number in mine if isfinite(others.get(number, inf))]
        shared = [ratio for ratio in shared if isfinite(ratio)] or [median(mine.values()) / median(others.values())]
        cv = ratio_cv(self.device_kind, [self._finite(arm, load) for arm in self.history])
        return median(shared), interval(shared, cv)

    def _place(self, arm: Arm, load: str) -> tuple[float, str, int]:
        """The less, the better; of what is the same, with more threads."""
        return self._middle(arm, load), arm.label, -arm.threads

    def _finite(self, arm: Arm, load: str) -> dict[int, float]:
        return {number: value for number, value in self._by_round(arm, load).items() if isfinite(value)}

    def _by_round(self, arm: Arm, load: str) -> dict[int, float]:
        return {number: values[load] for number, values in self.history[arm].items() if load in values}

    def _middle(self, arm: Arm, load: str) -> float:
        values = self._by_round(arm, load).values()
        return median(values) if values else inf
