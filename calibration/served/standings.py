"""Who is served next, who is out, and when it is over: decisions on what was measured, no clock, no process.

What is compared is an arm: a candidate with so many threads. Arms are compared within rounds, by the ratios of their
values, so that a slow drift of the machine hits both sides of a ratio; as in race.decisions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from statistics import median

from calibration.noise import interval, ratio_cv
from calibration.race.decisions import BAND

LEAST_ROUNDS = 2
"""Launches of the leaders at least: two launches differ by more than anything within one."""
DISTURBED = 3.1
"""Times by which one busy process slows an engine that has as many threads as there are cores, at most: measured on two
cores with five engines (1.4 to 3.1)."""
LEADERS = 2
"""So many are measured at other levels, too."""


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

    def ordered(self) -> list[Arm]:
        """Those that were launched, the best for the first load first."""
        return sorted(self.history, key=lambda arm: self._place(arm, self.loads[0]))

    def leaders(self) -> list[Arm]:
        """The best for each load, of all and of those that are not lossy; each once."""
        best: dict[Arm, None] = {}
        for group in self._groups():
            for load in self.loads:
                known = [arm for arm in group if self._middle(arm, load) < inf]
                if known:
                    best[min(known, key=partial(self._place, load=load))] = None
        return list(best)

    def out(self) -> dict[Arm, str]:
        """Who cannot be within the band of the best any more, and why."""
        reasons = {}
        leaders = set(self.leaders())
        for arm in self.history:
            if arm in leaders:
                continue
            # A lossy arm is beaten by any; one that is not by another that is not.
            rivals = [other for other in leaders if arm.label in self.lossy or other.label not in self.lossy]
            beaten_by = [other for other in rivals if all(self._beaten(arm, other, load) for load in self.loads)]
            if beaten_by:
                ratio = self._ratio(arm, beaten_by[0], self.loads[0])
                times = f"{ratio[0]:.2f} times worse than" if ratio[0] < inf else "not as good as"
                reasons[arm] = f"{times} {beaten_by[0]} for {self.loads[0]}"
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
        if rounds < min(LEAST_ROUNDS, most) or self.short(most):
            return ""
        groups = [group for group in self._groups(standing) if group]
        if all(len(group) == 1 for group in groups):
            return "one left"
        if all(self._tied(group) for group in groups):
            return "tied"
        return ""

    def short(self, most: int) -> list[Arm]:
        """The leaders that were launched too seldom to be believed: with another number of threads, or late."""
        return [arm for arm in self.leaders() if len(self.history[arm]) < min(LEAST_ROUNDS, most)]

    def _groups(self, arms: Sequence[Arm] | None = None) -> list[list[Arm]]:
        """Those that are not lossy, and all, where these are not the same."""
        every = list(self.history if arms is None else arms)
        exact = [arm for arm in every if arm.label not in self.lossy]
        return [exact, every] if exact and len(exact) < len(every) else [every]

    def _tied(self, group: Sequence[Arm]) -> bool:
        first = min(group, key=lambda arm: self._middle(arm, self.loads[0]))
        bounds = [self._ratio(arm, first, load)[1] for arm in group if arm != first for load in self.loads]
        return all(low >= 1.0 / (1.0 + BAND) and high <= 1.0 + BAND for low, high in bounds)

    def _beaten(self, slow: Arm, fast: Arm, load: str) -> bool:
        ratio, (low, _) = self._ratio(slow, fast, load)
        if slow in self.doubtful or fast in self.doubtful:
            return isfinite(ratio) and low > 1.0 + BAND and ratio > DISTURBED
        return low > 1.0 + BAND or ratio == inf

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
