"""The study's arithmetic, on numbers that can be checked by hand."""

import pytest

from benchmarks.study.regret import (
    Always,
    Case,
    Summary,
    always,
    beyond_noise,
    cross_judged,
    crossed,
    noise,
    picked,
    regret,
    slow,
    slower,
)
from tests.approximate import approx

FIRST = Case(
    model="one",
    workload="pp8:tg8:b1",
    times={"a:x": {1: 1.0, 2: 4.0}, "a:y": {1: 4.0, 2: 4.0}, "b:x": {1: 8.0, 2: 8.0}, "c:x": {1: 0.5}},
    pick="a:y",
)
"""Means 2, 4 and 8; c was timed in one pass only and does not compete."""
SECOND = Case(
    model="one",
    workload="pp9:tg8:b1",
    times={"a:x": {1: 8.0, 2: 8.0}, "b:x": {1: 2.0, 2: 2.0}},
    pick="b:x",
    left_out={"a:y": 5.0, "d:x": 7.0},
)


def test_regret_is_the_picks_time_over_the_bests() -> None:
    assert FIRST.best == "a:x"
    assert regret(FIRST) == approx(2.0)
    assert regret(SECOND) == 1.0
    assert picked([FIRST, SECOND], regret) == Summary(geomean=approx(2.0**0.5), worst=approx(2.0), n=2)


def test_best_of_one_pass_is_judged_on_the_other() -> None:
    # Chosen on pass 1 the best is a:x, which took 4 in pass 2, as the pick did; chosen on pass 2 it is a:x too.
    assert crossed(FIRST) == (1.0, 4.0)
    assert cross_judged([FIRST, SECOND]) == Summary(geomean=approx(4.0**0.25), worst=4.0, n=4)


def test_pick_that_beats_the_other_passes_best_is_below_one() -> None:
    case = Case(model="m", workload="w", times={"a:x": {1: 1.0, 2: 4.0}, "b:x": {1: 2.0, 2: 2.0}}, pick="b:x")
    assert crossed(case) == (0.5, 1.0)


def test_noise_counts_each_timed_pair_once_whatever_the_class() -> None:
    assert noise([FIRST, SECOND, FIRST]) == Summary(geomean=approx(4.0 ** (1 / 5)), worst=4.0, n=5)
    assert noise([Case(model="m", workload="w", times={"a:x": {1: 1.0}}, pick="a:x")]) is None


def test_regret_within_the_repeat_difference_is_none_beyond_it() -> None:
    assert beyond_noise(FIRST) == 1.0
    steady = Case(model="m", workload="w", times={"a:x": {1: 1.0, 2: 1.0}, "b:x": {1: 2.0, 2: 2.0}}, pick="b:x")
    assert beyond_noise(steady) == 2.0


def test_who_the_first_pass_shows_to_be_slow_counts_with_its_one_time_and_is_no_rival() -> None:
    case = Case(
        model="m",
        workload="w",
        times={"a:x": {1: 1.0, 2: 4.0}, "b:x": {1: 1.2, 2: 1.2}, "b:y": {1: 1.4}, "c:x": {1: 1.6}},
        pick="b:x",
    )
    assert slower(case.times) == ["c:x"]
    assert case.compared == {"a:x": (1.0, 4.0), "b:x": (1.2, 1.2), "c:x": (1.6,)}
    assert set(case.rivals) == {"a:x", "b:x"}
    # b:y is missing its second pass, so nothing is said of it; c:x is told by the pass that it has.
    assert {row.name: row.over_best for row in always([case])}["c:x"] == Summary(
        geomean=approx(1.6 / 1.2), worst=approx(1.6 / 1.2), n=1
    )
    assert case.best == "b:x"
    assert noise([case]) == Summary(geomean=approx(2.0), worst=4.0, n=2)


def test_always_takes_the_backends_best_variant_of_each_cell() -> None:
    found = {row.name: row for row in always([FIRST, SECOND])}
    assert set(found) == {"a", "a:x", "a:y", "b", "b:x", "c", "c:x", "d", "d:x"}
    # Cell 1: 2 / 2 over the best, 2 / 4 over the pick; cell 2: 8 / 2 both.
    assert found["a"] == Always(
        name="a",
        over_best=Summary(geomean=approx(2.0), worst=approx(4.0), n=2),
        over_pick=approx(2.0**0.5),
        cells=2,
        left_out=(),
    )
    assert found["a:y"] == Always(
        name="a:y",
        over_best=Summary(geomean=approx(2.0), worst=approx(2.0), n=1),
        over_pick=1.0,
        cells=2,
        left_out=(5.0,),
    )
    assert found["d"] == Always(name="d", over_best=None, over_pick=None, cells=2, left_out=(7.0,))


def test_always_tells_the_cheapest_first_and_the_untimed_last() -> None:
    case = Case(model="m", workload="w", times={"b:x": {1: 1.0}, "a:x": {1: 3.0}}, pick="b:x", left_out={"c:x": 9.0})
    assert [row.name for row in always([case])] == ["b", "b:x", "a", "a:x", "c", "c:x"]


def test_with_one_pass_only_it_is_what_counts() -> None:
    case = Case(model="m", workload="w", times={"a:x": {1: 1.0}, "b:x": {1: 3.0}}, pick="b:x")
    assert (regret(case), crossed(case)) == (approx(3.0), ())


def test_pick_that_was_not_timed_is_no_answer() -> None:
    case = Case(model="m", workload="w", times={"a:x": {1: 1.0}}, pick="b:x")
    assert not case.answered
    assert picked([case], regret) is None
    assert not Case(model="m", workload="w", times={}, pick=None).answered


@pytest.mark.parametrize(
    ("mean", "worst", "met"), [(1.01, 1.05, True), (1.011, 1.05, False), (1.01, 1.051, False), (1.0, 1.0, True)]
)
def test_goal(mean: float, worst: float, met: bool) -> None:
    assert Summary(geomean=mean, worst=worst, n=3).met is met


@pytest.mark.parametrize(
    ("predicted", "left_out"),
    [
        # b:fp32 is 6 times slower than the lossy best, and the best of the exact ones: it stays.
        ({"a:int4": 1.0, "a:int8": 5.0, "b:fp32": 6.0, "c:fp32": 30.0}, {"a:int8": 5.0, "c:fp32": 5.0}),
        # c:fp32 stands for its backend, c:sdpa is neither that nor near.
        ({"b:fp32": 1.0, "b:fp16": 1.5, "c:fp32": 3.0, "c:sdpa": 3.5}, {"c:sdpa": 3.5}),
        # Among the exact ones alone, a:fp32 stands for its backend.
        ({"a:int4": 1.0, "a:fp32": 5.0, "b:fp32": 2.0}, {}),
    ],
)
def test_who_cannot_be_the_best_nor_stands_for_a_backend_is_left_out(
    predicted: dict[str, float], left_out: dict[str, float]
) -> None:
    assert slow(predicted, {"a:int4", "a:int8"}, 4.0) == left_out
