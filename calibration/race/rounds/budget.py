"""The time that a calibration may take, and how much of it launches will probably take."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from calibration.race.bounds import Bounds
from calibration.race.rounds.state import Race
from calibration.supervision.launch_spec import LaunchSpec


class Budget:
    """What is left of the time, by a clock.

    Args:
        converting_s: of candidates: seconds that the conversions which they still lack will probably take.
    """

    def __init__(
        self, bounds: Bounds, clock: Callable[[], float], converting_s: Callable[[Iterable[LaunchSpec]], float]
    ) -> None:
        self.deadline = None if bounds.budget_s is None else clock() + bounds.budget_s
        """On the clock; None: there is none."""
        self.spent = False
        """It is over, or a launch did not begin since it would not have ended in time."""
        self._shares = bounds.shares
        self._clock = clock
        self._converting_s = converting_s
        self._took_s: dict[str, float] = {}
        """Candidate label: seconds of its last launch, without what later launches need not do again."""

    def allows(self, spec: LaunchSpec) -> bool:
        """Whether a launch will probably end in time. Before anything was measured it may always begin."""
        left_s = self._left_s()
        enough = left_s is None or not self._took_s or left_s >= self._launch_s(spec.label) + self._converting_s([spec])
        self.spent |= not enough
        return enough

    def share_s(self, spec: LaunchSpec, waiting: Sequence[LaunchSpec]) -> float | None:
        """Seconds after which a first launch is given up; None: it is not.

        Args:
            waiting: who comes after it in the round.
        """
        left_s = self._left_s()
        return None if left_s is None or spec.label in self._took_s else self._shares * left_s / (1 + len(waiting))

    def reached(self, spec: LaunchSpec, waiting: Sequence[LaunchSpec]) -> tuple[LaunchSpec, ...]:
        """Those of the waiting whose launch will probably end in time, when `spec` is launched first."""
        left_s = self._left_s()
        if left_s is None:
            return tuple(waiting)
        specs = (spec, *waiting)
        ends = accumulate(self._launch_s(s.label) + self._converting_s([s]) for s in specs)
        return specs[1 : sum(end_s <= left_s for end_s in ends)]

    def remaining_s(self, spec: LaunchSpec, race: Race) -> float | None:
        """Seconds until the race is over if no candidate drops out; None while no time is known.

        Args:
            spec: is launched next.
        """
        left_s = self._left_s()
        if not self._took_s:
            return left_s
        specs = (spec, *race.waiting)
        seconds = self._converting_s(specs) + sum(self._launch_s(s.label) for s in specs)
        seconds += sum(race.launches_left(label) * self._launch_s(label) for label in race.order)
        return seconds if left_s is None else min(seconds, left_s)

    def count(self, spec: LaunchSpec, took_s: float | None) -> None:
        """Count a launch that is over.

        Args:
            took_s: None where it left nothing.
        """
        self.spent |= self.deadline is not None and self._clock() >= self.deadline
        if took_s is not None:
            self._took_s[spec.label] = took_s

    def _left_s(self) -> float | None:
        return None if self.deadline is None else self.deadline - self._clock()

    def _launch_s(self, label: str) -> float:
        """Of the next launch of a candidate: as its last took, or as the others' did on average."""
        known = self._took_s
        return known.get(label, sum(known.values()) / len(known) if known else 0.0)
