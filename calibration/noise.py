"""How much launches of one candidate differ, and what that leaves of their median."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from statistics import median
from typing import TypeVar

Round = TypeVar("Round", bound=Hashable)

SHARED_CPU_CV = 0.12
"""Coefficient of variation between two launches of one candidate on a CPU, before any spread was seen.

Measured on shared hosts with two cores: 12 and 11 % on the noisiest two of the six in results/, 3, 5, 5 and 6 % on the
others (end-to-end times of the cells, pooled over candidates). Repeats inside one process vary by 5 %.
"""

OWN_GPU_CV = 0.025
"""The same on an accelerator, which nobody shares while it is measured: 57 cells of a published table
(argonne-lcf/LLM-Inference-Bench) that were timed twice differ by a CV of 0.8 %; three times that is believed."""

HOST_WEIGHT = 6.0
"""How many degrees of freedom the prior of a device has beside the launches of all its candidates. Simulated
(tests/calibration/test_noise.py): on a host with the prior's spread 95 of 100 intervals hold the truth, and a host that
is steadier or noisier than its prior is believed after a race of the usual length."""

PRIOR_WEIGHT = 0.1
"""How many launches the prior variance counts as beside the observed one of a single candidate. So little that a steady
candidate is believed soon: launches that agree to the last digit leave 17, 8, 4 and 3 % for 2, 3, 4 and 5 of them where
the prior is 12 %. So much that on a host with the prior's spread 95 to 97 of 100 intervals hold the truth, for two
launches as for six (without it 92 for two).
"""

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Two-sided 95 % quantiles of Student's t for 1, 2, 3 ... degrees of freedom; beyond them see `_t95`."""

_Z95 = 1.95996


def prior_cv(device_kind: str) -> float:
    """How much launches on such a device (Device.kind) are believed to differ before any was seen."""
    return SHARED_CPU_CV if device_kind == "cpu" else OWN_GPU_CV


def launch_cv(device_kind: str, launches: Iterable[Sequence[float]]) -> float:
    """How much launches on this host differ: the prior of its device, updated by the launches of all its candidates.

    Args:
        launches: for each candidate, what its launches took of the same work.
    """
    return _updated(prior_cv(device_kind), launches)


def ratio_cv(device_kind: str, launches: Sequence[Mapping[Round, float]]) -> float:
    """How much the ratio of two launches of one round varies on this host.

    A drift of the machine from round to round is in every time of a round, and in no ratio: so this is learned from
    the ratios to the candidate that was launched most often.

    Args:
        launches: for each candidate, what its launches took of the same work, by their round.
    """
    prior = prior_cv(device_kind) * math.sqrt(2)
    often = max(launches, key=len, default=dict[Round, float]())
    others = (times for times in launches if times is not often)
    shared = ([number / often[round_] for round_, number in times.items() if often.get(round_)] for times in others)
    return _updated(prior, shared)


def interval(values: Sequence[float], prior: float) -> tuple[float, float]:
    """95 % interval of the median of positive values, one a launch, computed on their logarithms (so never negative).

    The narrower of two half-widths. Student's t on the observed variance, in which the prior one counts as PRIOR_WEIGHT
    launches more: for many launches it is what they show, and launches that happen to agree leave what the prior
    allows. The normal one on the larger of the prior and the observed spread: for two launches t alone is useless.

    Args:
        prior: the CV of the values that is believed before they are seen.
    """
    n = len(values)
    middle = median(values)
    if middle <= 0.0:
        return middle, middle
    if n == 1:
        half = _Z95 * prior
    else:
        seen = _deviation([math.log(v) for v in values]) if min(values) > 0.0 else math.inf
        believed = math.sqrt((PRIOR_WEIGHT * prior**2 + (n - 1) * seen**2) / (PRIOR_WEIGHT + n - 1))
        # The standard error of a median is 1.2533 times the mean's (normal noise); of two values it is the mean.
        root = math.sqrt(n) if n == 2 else math.sqrt(n) / 1.2533
        half = min(_t95(n - 1) * believed, _Z95 * max(seen, prior)) / root
    factor = math.exp(half)
    return middle / factor, middle * factor


def half_width(values: Sequence[float], prior: float) -> float:
    """What stands after `±`: half of the interval of the median, in the unit of the values."""
    low, high = interval(values, prior)
    return (high - low) / 2


def _updated(prior: float, groups: Iterable[Sequence[float]]) -> float:
    """The pooled deviation of the logarithms inside groups, the prior's HOST_WEIGHT included."""
    squares, freedom = HOST_WEIGHT * prior**2, HOST_WEIGHT
    for values in groups:
        if len(values) > 1 and min(values) > 0.0:
            freedom += len(values) - 1
            squares += (len(values) - 1) * _deviation([math.log(value) for value in values]) ** 2
    return math.sqrt(squares / freedom)


def _deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; statistics.stdev is exact and twenty times slower."""
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def _t95(freedom: int) -> float:
    """Student's t, 97.5 % quantile; beyond the table the first terms of its expansion in 1 / freedom (Fisher 1925)."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    return _Z95 + (_Z95**3 + _Z95) / (4 * freedom)
