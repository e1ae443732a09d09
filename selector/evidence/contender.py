"""What a choice looks at in every candidate that was measured, for a batch or under load; and the choice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from calibration.race.bounds import BAND
from selector.demand.targets import LIKELY, nearness


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """How a candidate stands to the targets."""

    chance: float | None = None
    """The probability that its next launch meets them; None where none were given."""
    miss: float = 0.0
    """How many times its target the time is that keeps worst to it, by the medians; at most 1 where they meet all."""

    @property
    def meets(self) -> bool:
        """Whether it is likely to meet the targets; true where none were given."""
        return self.chance is None or self.chance >= LIKELY

    @property
    def nearness(self) -> tuple[float, float]:
        """The larger, the nearer to the targets: by the probability, and where it is next to none by the miss."""
        return nearness(self.chance or 0.0, self.miss)


C = TypeVar("C", bound=Contender)


def choose_contender(contenders: Sequence[C], value: Callable[[C], float], *, bound: bool = True) -> C:
    """The first within BAND of the best of those that meet the targets; where none does, the nearest to them.

    So noise does not change an answer.

    Args:
        contenders: in the static order; never empty.
        value: less is better.
        bound: False: the targets decide nothing.
    """
    meeting = [one for one in contenders if one.meets or not bound]
    if not meeting:
        return max(contenders, key=lambda one: one.nearness)
    least = min(map(value, meeting))
    return next(one for one in meeting if value(one) <= least * (1 + BAND))
