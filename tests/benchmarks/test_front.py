"""The benchmark of the front: its figures come from a front that runs, and stand in a table."""

import pytest

from benchmarks.serving.front import Cost, measure, table
from calibration.load.load import Load


@pytest.mark.slow
def test_an_engine_that_keeps_time_is_measured_through_the_front() -> None:
    """Never earlier than due, by more than the clock's and asyncio's grain; the CPU time is a part of what passed."""
    cost = measure(Load.parse("pp8:tg8:c4"), requests=12)
    assert isinstance(cost, Cost)
    assert (cost.load, cost.requests) == ("pp8:tg8:c4", 12)
    assert cost.ttft_s > -0.002
    assert cost.tpot_s > -0.002
    assert 0 < cost.cpu_s < 0.02


def test_a_row_for_each_load() -> None:
    costs = [
        Cost(load="pp64:tg64:c1", requests=100, ttft_s=0.0012, tpot_s=-0.0000004, cpu_s=0.00004, others=0.012),
        Cost(load="pp64:tg64:c8", requests=100, ttft_s=0.0112, tpot_s=0.0001, cpu_s=0.00003, others=None),
    ]
    assert list(table(costs)) == [
        "load             requests        TTFT        TPOT   CPU a token   others",
        "pp64:tg64:c1          100    +1.20 ms       -0 us         40 us       1%",
        "pp64:tg64:c8          100   +11.20 ms     +100 us         30 us         ",
    ]
