"""The study: each group predicted from what is left, the variances of the model estimated anew each time."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from benchmarks.foresight.groups import Group, LeftOut, groups_of, lossless
from benchmarks.foresight.policies import medians, random_regret, static_order
from selector.predict.known.shipped import shipped
from selector.predict.known.timing import Timing
from selector.predict.times.covariance import Point
from selector.predict.times.outlook import Outlook
from selector.predict.times.times import Observed, Times, launch_variance, widened
from selector.predict.times.variances import estimate

MOST_TRIED = 4
CLASSES = ("equal precision", "lossy allowed")
MODEL, MEDIANS, STATIC, RANDOM = "model of times", "plain medians", "static order", "random"
POLICIES = (MODEL, MEDIANS, STATIC, RANDOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One group in one class: the logarithm of the regret of the first k of each policy."""

    group: Group
    left_out: LeftOut
    of: str
    """The class."""
    log_regrets: dict[str, tuple[float, ...]]
    """Policy: of the best of the first 1, 2, 3, 4."""
    expected_regret: float
    """What the model itself expected of its pick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """What came of one thing left out."""

    cases: tuple[Case, ...]
    inside: int
    """Times within their 90 % interval ..."""
    times: int
    """... of so many."""
    squares: float
    """Sum of the squares of the logarithms of predicted over true times."""
    fit_s: float


def run(processes: int) -> list[Fold]:
    """Every fold."""
    timings = shipped()
    pairs = sorted({(t.host.identifier, t.model) for t in timings})
    asked = [(LeftOut.HOST_AND_MODEL, host, model) for host, model in pairs]
    asked += [(LeftOut.HOST, host, "") for host in sorted({host for host, _ in pairs})]
    asked += [(LeftOut.MODEL, "", model) for model in sorted({model for _, model in pairs})]
    if processes == 1:
        return [fold(*a) for a in asked]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(fold, *zip(*asked, strict=True)))


def fold(left_out: LeftOut, host: str, model: str) -> Fold:
    """Leave out a host, a model or both, and predict the groups of it; an empty name is any."""
    timings = shipped()
    known = [t for t in timings if left_out.keeps(t, host, model)]
    began = time.perf_counter()
    observed = Observed.of(known)
    variances = widened(estimate(observed), len({timing.work.fingerprint for timing in known}))
    fit_s = time.perf_counter() - began
    times = Times.given(observed, variances)
    every = groups_of(timings)
    groups = [g for g in every if host in {"", g.host} and model in {"", g.model}]
    by_medians = medians(known, every, left_out)
    cases: list[Case] = []
    inside = total = 0
    squares = 0.0
    for group in groups:
        for of, labels in zip(CLASSES, (lossless([*group.seconds]), [*group.seconds]), strict=True):
            outlook = _outlook(times, timings, group, labels, launch_variance(variances))
            expected = outlook.at(group.workload)
            own = group.of(labels)
            if of == CLASSES[-1]:
                truths = [group.seconds[label] for label in labels]
                inside += sum(
                    low <= truth <= high
                    for low, truth, high in zip(expected.low_s, truths, expected.high_s, strict=True)
                )
                total += len(truths)
                squares += sum(math.log(s / truth) ** 2 for s, truth in zip(expected.e2e_s, truths, strict=True))
            orders = {
                MODEL: [labels[i] for i in expected.to_try()],
                MEDIANS: by_medians(own),
                STATIC: static_order(own),
            }
            log_regrets = {
                policy: tuple(math.log(own.regret(order[:k])) for k in range(1, MOST_TRIED + 1))
                for policy, order in orders.items()
            }
            log_regrets[RANDOM] = tuple(random_regret(own, k) for k in range(1, MOST_TRIED + 1))
            regret = expected.regret(int(expected.e2e_s.argmin()))
            cases.append(Case(group=own, left_out=left_out, of=of, log_regrets=log_regrets, expected_regret=regret))
    return Fold(cases=tuple(cases), inside=inside, times=total, squares=squares, fit_s=fit_s)


def _outlook(times: Times, timings: Sequence[Timing], group: Group, labels: Sequence[str], launch: float) -> Outlook:
    timing = next(t for t in timings if (t.host.identifier, t.model) == (group.host, group.model))
    points = [Point(host=timing.host, work=timing.work, label=label) for label in labels]
    return Outlook.of(*times.at(points), launch)
