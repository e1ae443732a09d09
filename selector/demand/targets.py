"""Targets: the longest times that a user accepts, and how likely a launch of a candidate keeps to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from calibration.errors import UsageError
from calibration.noise import PRIOR_WEIGHT

LIKELY = 0.5
"""A candidate meets the targets when that is more likely than not; for two launches and more its medians then do."""

SURE = 0.9
"""A less likely answer is said to be unsure, and the surest candidate is named beside it."""

_Z90 = 1.645

HOPELESS = 0.005
"""Chances below this are told as `< 1 %` and are as good as each other: what orders them is by how much they miss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The longest time to the first token and per output token after it that a user accepts; seconds.

    Raises:
        UsageError: a time that is not above 0.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (("to the first token", self.ttft_s), ("per output token", self.tpot_s)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise UsageError(f"needs a target of more than 0 s {name}; found {seconds:g}")

    def __bool__(self) -> bool:
        return self.ttft_s is not None or self.tpot_s is not None

    def __str__(self) -> str:
        """`TTFT <= 0.2 s, TPOT <= 0.03 s`."""
        return ", ".join(f"{name} <= {target:g} s" for name, target, _ in self.against(0.0, 0.0))

    def against(self, ttft_s: float, tpot_s: float) -> list[tuple[str, float, float]]:
        """(name, target, time) of each target that there is."""
        rows = [("TTFT", self.ttft_s, ttft_s), ("TPOT", self.tpot_s, tpot_s)]
        return [(name, target, time) for name, target, time in rows if target is not None]

    def worst(self, ttft_s: float, tpot_s: float) -> float:
        """How many times its target the time is that keeps worst to it; at most 1 where all targets are met."""
        return max((time / target for _, target, time in self.against(ttft_s, tpot_s)), default=0.0)


def chance(worst: Sequence[float], prior: float) -> float:
    """The probability that the next launch of a candidate meets its targets.

    A launch meets them where the worst of its ratios of time and target is at most 1, so the ratios of TTFT and of TPOT
    need not be taken for independent: what makes one launch slower than another makes both slower.

    The next launch differs from the median of the others by the spread between launches and by what the median itself
    is off. As in `calibration.noise.interval` the logarithms are taken for normal, and of two distributions the
    narrower holds: Student's t on the observed variance, in which the prior one counts as PRIOR_WEIGHT launches, or the
    normal one on the larger of the prior and the observed spread.

    Args:
        worst: Targets.worst of each launch.
        prior: how much the launches of a candidate are believed to differ before any was seen; a CV.
    """
    n = len(worst)
    middle = median(worst)
    if middle <= 0.0:
        return 1.0
    room = -math.log(middle)
    # The variance of a median is pi / 2 times the mean's (normal noise); of one or two values it is the mean.
    off = math.sqrt(1.0 + (math.pi / 2 if n > 2 else 1.0) / n)
    if n == 1:
        return _normal(room / (prior * off))
    logs = [math.log(ratio) if ratio > 0.0 else -math.inf for ratio in worst]
    mean = sum(logs) / n
    seen = math.sqrt(sum((log - mean) ** 2 for log in logs) / (n - 1)) if min(worst) > 0.0 else math.inf
    believed = math.sqrt((PRIOR_WEIGHT * prior**2 + (n - 1) * seen**2) / (PRIOR_WEIGHT + n - 1))
    both = _normal(room / (max(seen, prior) * off)), _student(room / (believed * off), n - 1)
    return max(both, key=lambda probability: abs(probability - 0.5))


def chance_within(ratio: float, ci90: tuple[float, float]) -> float:
    """The probability that a launch keeps to one target, of a prediction.

    Args:
        ratio: the predicted time over its target.
        ci90: what one launch will take, with 90 %, in any unit: its logarithm is normal.
    """
    spread = math.log(ci90[1] / ci90[0]) / (2 * _Z90)
    return _normal(-math.log(ratio) / spread) if spread > 0.0 else float(ratio <= 1.0)


def nearness(chance: float, miss: float) -> tuple[float, float]:
    """The larger, the nearer to the targets: by the probability, and where it is next to none by the miss.

    Args:
        miss: how many times its target the time is that keeps worst to it.
    """
    return chance if chance >= HOPELESS else 0.0, -miss


def percent(probability: float) -> str:
    """Never certain: `> 99 %`.

    >>> [percent(p) for p in (0.0, 0.0049, 0.005, 0.934, 0.995, 1.0)]
    ['< 1 %', '< 1 %', '1 %', '93 %', '> 99 %', '> 99 %']
    """
    if probability < HOPELESS:
        return "< 1 %"
    return "> 99 %" if probability >= 1.0 - HOPELESS else f"{max(1, round(100 * probability))} %"


def seconds(value: float) -> str:
    """A time as sentences tell it.

    >>> seconds(0.01234), seconds(1234.5)
    ('0.0123 s', '1234 s')
    """
    return f"{value:.3g} s" if value < 999.5 else f"{value:.0f} s"


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _student(t: float, freedom: int) -> float:
    """Student's t for a whole number of degrees of freedom, as a finite sum (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if not odd:
        return 0.5 * (1.0 + sine * total)
    return 0.5 + (angle + (sine * total if freedom > 1 else 0.0)) / math.pi
