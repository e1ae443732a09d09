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
    assert cost.ttft_s is not None
    assert cost.ttft_s > -0.002
    assert cost.tpot_s > -0.002
    assert 0 < cost.cpu_s < 0.02
    assert 0 < cost.client_s < 0.02
    assert (cost.in_worker, cost.worker_s) == (False, None)


@pytest.mark.slow
def test_an_engine_in_a_worker_is_measured_through_the_front() -> None:
    cost = measure(Load.parse("pp8:tg8:c4"), requests=12, in_worker=True)
    assert isinstance(cost, Cost)
    assert (cost.requests, cost.in_worker, cost.ttft_s) == (12, True, None)
    assert cost.tpot_s > -0.002
    assert cost.worker_s is not None
    assert 0 < cost.worker_s < 0.02
    assert 0 < cost.cpu_s < 0.02


def test_a_row_for_each_load() -> None:
    costs = [
        Cost(
            load="pp64:tg64:c1", in_worker=False, requests=100, ttft_s=0.0012, tpot_s=-0.0000004, cpu_s=0.00004,
            worker_s=None, client_s=0.00002, others=0.012,
        ),
        Cost(
            load="pp64:tg64:c8", in_worker=True, requests=100, ttft_s=None, tpot_s=0.0001, cpu_s=0.00003,
            worker_s=0.00001, client_s=0.00002, others=None,
        ),
    ]  # fmt: skip
    assert list(table(costs)) == [
        "load            engine      requests        TTFT        TPOT  CPU a token: front   worker   client   others",
        "pp64:tg64:c1    within           100    +1.20 ms       -0 us               40 us             20 us       1%",
        "pp64:tg64:c8    in worker        100                 +100 us               30 us    10 us    20 us         ",
    ]
