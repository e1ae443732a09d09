"""Figures of many requests: percentiles, a share with its interval, and whether something rises."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.95996
"""Two-sided 95 % of the normal distribution."""

RISING_PARTS = 10
"""Into so many parts of equal time a run is cut: what is in a queue now and a moment later is nearly the same, the
means of long parts are nearly independent."""
RISING_ERRORS = 7.0
"""A slope is a rise when it is this many of its standard errors. It is asked again and again while a load runs, so it
must hardly ever be so by chance (simulated: tests/calibration/load/client/test_course.py)."""
RISING_TIMES = 2.0
"""... and when the second half is this many times the first: a queue that has only found its length is no rise."""


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Linear between the two nearest ranks, as numpy, vllm bench and AIPerf do it; None where there are no values.

    >>> percentile([1.0, 2.0, 4.0], 50), percentile([1.0, 2.0, 4.0], 75), percentile([], 50)
    (2.0, 3.0, None)
    """
    if not values:
        return None
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (rank - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many of several requests kept something."""

    kept: int
    of: int

    @property
    def value(self) -> float | None:
        return self.kept / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share behind it (Wilson 1927).

        >>> low, high = Share(kept=73, of=73).interval
        >>> round(low, 4), round(high, 4)
        (0.95, 1.0)
        """
        if not self.of:
            return 0.0, 1.0
        share, n, z2 = self.kept / self.of, self.of, _Z95 * _Z95
        middle = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        # At the ends it is exact, but for rounding.
        return (max(0.0, middle - half) if self.kept else 0.0), (min(1.0, middle + half) if self.kept < n else 1.0)

    def __str__(self) -> str:
        """`0.97 (0.92 to 0.99) of 100`."""
        low, high = self.interval
        return f"{self.kept / self.of:.2f} ({low:.2f} to {high:.2f}) of {self.of}" if self.of else "none of 0"


def rises(points: Sequence[tuple[float, float]]) -> bool:
    """Whether values at times, in the order of these, go up for certain over all of their time."""
    parts = _means(points)
    n, half = len(parts), RISING_PARTS // 2
    if n < RISING_PARTS or sum(parts[half:]) < RISING_TIMES * sum(parts[:half]):
        return False
    middle, mean = (n - 1) / 2, sum(parts) / n
    spread = sum((place - middle) ** 2 for place in range(n))
    slope = sum((place - middle) * (value - mean) for place, value in enumerate(parts)) / spread
    rest = sum((value - mean - slope * (place - middle)) ** 2 for place, value in enumerate(parts))
    return slope > RISING_ERRORS * math.sqrt(rest / (n - 2) / spread)


def _means(points: Sequence[tuple[float, float]]) -> list[float]:
    """The mean of each part of the time that has a value."""
    if not points:
        return []
    begin, end = points[0][0], points[-1][0]
    parts: dict[int, list[float]] = {}
    for at, value in points:
        place = int((at - begin) / (end - begin) * RISING_PARTS) if end > begin else 0
        parts.setdefault(min(place, RISING_PARTS - 1), []).append(value)
    return [sum(values) / len(values) for _, values in sorted(parts.items())]
