"""Figures of many requests beside numpy's, beside published intervals, and beside lines drawn by hand."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.load.figures import Share, percentile, rises

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)


@given(values, st.floats(0, 100))
def test_percentiles_are_numpys(numbers: list[float], percent: float) -> None:
    assert percentile(numbers, percent) == pytest.approx(float(np.percentile(numbers, percent)), rel=1e-9, abs=1e-9)


@given(values)
def test_percentiles_are_in_order_and_end_at_the_least_and_the_most(numbers: list[float]) -> None:
    told = [percentile(numbers, percent) for percent in (0, 50, 90, 95, 99, 100)]
    assert told == sorted(told, key=lambda value: value or 0.0)
    assert (told[0], told[-1]) == (min(numbers), max(numbers))


@pytest.mark.parametrize(
    ("kept", "of", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (73, 73, 0.9500, 1.0),
        (72, 72, 0.9493, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_a_shares_interval_is_wilsons(kept: int, of: int, low: float, high: float) -> None:
    assert Share(kept=kept, of=of).interval == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_holds_its_share_and_narrows_with_more_requests(counted: tuple[int, int]) -> None:
    kept, of = counted
    share, tenfold = Share(kept=kept, of=of), Share(kept=10 * kept, of=10 * of)
    (low, high), (nearer_low, nearer_high) = share.interval, tenfold.interval
    assert 0 <= low <= kept / of <= high <= 1
    assert nearer_high - nearer_low < high - low


def test_a_share_is_told_with_its_interval() -> None:
    assert str(Share(kept=97, of=100)) == "0.97 (0.92 to 0.99) of 100"
    assert str(Share(kept=0, of=0)) == "none of 0"
    assert (Share(kept=3, of=4).value, Share(kept=0, of=4).value, Share(kept=0, of=0).value) == (0.75, 0.0, None)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(x, 2.0 * x) for x in range(10)], True),
        ([(x, 2.0 * x) for x in range(500)], True),
        ([(x, 100.0 - x) for x in range(100)], False),
        ([(x, 5.0) for x in range(100)], False),
        ([(x, 2.0 * x) for x in range(9)], False),  # parts without a value
        ([(1.0, float(y)) for y in range(20)], False),  # all at one time
        ([], False),
        ([(x, 50.0 + x) for x in range(100)], False),  # it does not double
        ([(x, min(float(x), 20.0)) for x in range(100)], False),  # it found its length
        ([(x, x + (500.0 if x // 10 % 2 else 0.0)) for x in range(100)], False),  # lost in its own scatter
        ([(x, x + (10.0 if x // 10 % 2 else 0.0)) for x in range(100)], True),
    ],
)
def test_what_rises(points: list[tuple[float, float]], expected: bool) -> None:
    assert rises(points) is expected


@pytest.mark.parametrize(("errors", "expected"), [(6.95, False), (7.05, True)])
def test_a_rise_is_seven_standard_errors_of_the_slope(errors: float, expected: bool) -> None:
    """Beside a line through ten points with a scatter that has no part of a line, so that its error is known."""
    x = np.arange(10.0)
    line = np.stack([np.ones(10), x - x.mean()])
    scatter = np.array([1.0, -2, 1, 0, 2, -1, -2, 1, 1, -1])
    scatter -= line.T @ np.linalg.solve(line @ line.T, line @ scatter)
    error = np.sqrt((scatter**2).sum() / (10 - 2) / ((x - x.mean()) ** 2).sum())
    values = 1.0 + x + scatter / error / errors
    assert rises([(100.0 + at, float(value)) for at, value in zip(x, values, strict=True)]) is expected


def test_the_second_half_is_twice_the_first() -> None:
    assert rises([(float(x), 3.0 + x) for x in range(10)])  # 25 and 50
    assert not rises([(float(x), 3.1 + x) for x in range(10)])


def test_noise_does_not_rise() -> None:
    draw = random.Random(5)
    assert not any(rises([(x, draw.expovariate(1)) for x in range(100)]) for _ in range(1000))
