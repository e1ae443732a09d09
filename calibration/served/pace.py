"""Pace: what launches of servers have taken, and whether there is time for one more."""

from collections.abc import Sequence

from calibration.served.standings import Arm
from calibration.supervision.deadline import Deadline


class Pace:
    """Of one race.

    Args:
        deadline: the budget's.
        shares: a first launch may take so many times as much of what is left as remains for each of those that wait.
        least_s: what the loads of a launch take at the least: traces last as long for every candidate, and are not
            begun where they would not end. There is then no share of the budget, since none is quicker by being given
            less.
    """

    def __init__(self, deadline: Deadline, shares: float, least_s: float = 0.0) -> None:
        self._deadline, self._shares, self._least_s = deadline, shares, least_s
        self._took_s: dict[str, float] = {}
        """Candidate label: what its last launch took."""

    def count(self, label: str, seconds: float) -> None:
        """Count a launch that is over."""
        self._took_s[label] = seconds

    def affords(self, arm: Arm) -> bool:
        """Whether a launch will probably end in time. Before anything was measured it may begin if its traces fit."""
        left_s = self._deadline.left_s()
        if left_s is None:
            return True
        return left_s >= max(self._least_s, self._expected_s(arm.label) if self._took_s else 0.0)

    def left_s(self, arm: Arm, waiting: Sequence[Arm]) -> float | None:
        """Seconds until this launch and those that wait are probably over; None while nothing is known.

        Args:
            waiting: who comes after it in its round.
        """
        left_s = self._deadline.left_s()
        if not self._took_s:
            return left_s
        seconds = sum(self._expected_s(other.label) for other in (arm, *waiting))
        return seconds if left_s is None else min(seconds, left_s)

    def share_s(self, arm: Arm, waiting: Sequence[Arm]) -> float | None:
        """Seconds that a launch may take; None: as many as it needs, or as the budget has."""
        left_s = self._deadline.left_s()
        if left_s is None or arm.label in self._took_s or self._least_s:
            return None
        return self._shares * left_s / (self._shares + len(waiting))

    def _expected_s(self, label: str) -> float:
        known = self._took_s
        return known.get(label, sum(known.values()) / len(known))
