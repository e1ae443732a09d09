"""Policies: in which order candidates would be taken before one is measured, without the model of times."""

import math
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.foresight.groups import Group, LeftOut
from calibration.registry import all_backends
from selector.predict.known.timing import Timing

Order = Callable[[Group], list[str]]


def static_order(group: Group) -> list[str]:
    """The order of the registry: what `select` answers where nothing is known."""
    order = [f"{name}:{v.name}" for name, backend in all_backends().items() for v in backend.variants]
    return sorted(group.seconds, key=order.index)


def medians(timings: Sequence[Timing], groups: Sequence[Group], left_out: LeftOut) -> Order:
    """By the median of the logarithm of a candidate's time over its group's mean, in the nearest groups that are known.

    The nearest are those of the same model where only the host is left out, of the same host where only the model is.
    Candidates that are in none of them come last.
    """
    known = {(t.host.identifier, t.model) for t in timings}

    def order(asked: Group) -> list[str]:
        relative: dict[str, list[float]] = {}
        for group in groups:
            near = {
                LeftOut.HOST: group.model == asked.model,
                LeftOut.MODEL: group.host == asked.host,
                LeftOut.HOST_AND_MODEL: True,
            }[left_out]
            if near and (group.host, group.model) in known and _alike(group, asked):
                mean = sum(map(math.log, group.seconds.values())) / len(group.seconds)
                for label, seconds in group.seconds.items():
                    relative.setdefault(label, []).append(math.log(seconds) - mean)
        return sorted(asked.seconds, key=lambda label: median(relative.get(label, [math.inf])))

    return order


def _alike(one: Group, other: Group) -> bool:
    """The same cell; 960 tokens stand for 1024 where a model takes no more."""
    a, b = one.workload, other.workload
    return a.batch == b.batch and max(a.prompt_tokens, b.prompt_tokens) < 1.1 * min(a.prompt_tokens, b.prompt_tokens)


def random_regret(group: Group, k: int) -> float:
    """Expected logarithm of the regret of the best of k candidates at random."""
    times = sorted(group.seconds.values())
    n, k = len(times), min(k, len(times))
    # The i-th fastest is the best of the k if the other k - 1 are among those slower.
    return sum(math.comb(n - 1 - i, k - 1) * math.log(t / times[0]) for i, t in enumerate(times)) / math.comb(n, k)
