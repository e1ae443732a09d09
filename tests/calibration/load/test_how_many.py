"""How many requests tell p95 of TTFT: simulated, as docs/measuring.md says it.

A server with four slots, first come, first served; an answer takes 1 s on average, with a spread of 30 %.
"""

import heapq
import random
from collections.abc import Callable
from statistics import median

import pytest

from calibration.load.figures import percentile
from calibration.load.run import REQUESTS_LEAST

SLOTS = 4
WARM_UP = 50
Simulate = Callable[[int, random.Random], list[float]]
"""The TTFT of so many requests."""


def _ttft_s(waited_s: float, draw: random.Random) -> float:
    return waited_s + 0.2 * draw.lognormvariate(0, 0.15)


def closed(streams: int) -> Simulate:
    def simulate(requests: int, draw: random.Random) -> list[float]:
        free, asks, seen = [0.0] * SLOTS, sorted(draw.random() for _ in range(streams)), []
        for _ in range(requests + WARM_UP):
            sent = heapq.heappop(asks)
            begin = max(heapq.heappop(free), sent)
            end = begin + max(0.1, draw.gauss(1, 0.3))
            heapq.heappush(free, end)
            heapq.heappush(asks, end)
            seen.append(_ttft_s(begin - sent, draw))
        return seen[WARM_UP:]

    return simulate


def opened(load: float) -> Simulate:
    def simulate(requests: int, draw: random.Random) -> list[float]:
        free, due, seen = [0.0] * SLOTS, 0.0, []
        for _ in range(requests + WARM_UP):
            due += draw.expovariate(load * SLOTS)
            begin = max(heapq.heappop(free), due)
            heapq.heappush(free, begin + max(0.1, draw.gauss(1, 0.3)))
            seen.append(_ttft_s(begin - due, draw))
        return seen[WARM_UP:]

    return simulate


def error(simulate: Simulate, requests: int) -> float:
    """What nine of ten loads are off by at most, as a share of the true p95."""
    draw = random.Random(1)

    def p95(count: int) -> float:
        return percentile(simulate(count, draw), 95) or 0.0

    true = median(p95(20_000) for _ in range(5))
    off = sorted(abs(p95(requests) / true - 1) for _ in range(200))
    return off[180]


@pytest.mark.parametrize("streams", [4, 5, 8])
def test_a_hundred_requests_of_a_closed_loop_tell_p95_within_a_tenth(streams: int) -> None:
    assert error(closed(streams), REQUESTS_LEAST) <= 0.105
    assert error(closed(streams), 50) > error(closed(streams), 400)


@pytest.mark.parametrize(("load", "least", "most"), [(0.3, 0.1, 0.15), (0.6, 0.4, 0.5), (0.9, 0.6, 0.7)])
def test_two_hundred_requests_of_a_poisson_process_do_not_tell_p95(load: float, least: float, most: float) -> None:
    assert least <= error(opened(load), 200) <= most
