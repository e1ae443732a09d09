"""What a load leaves as figures, and what is told between levels of concurrency."""

from dataclasses import replace
from math import inf

import pytest

from calibration.load.load import Load
from selector.demand.objective import Objective
from selector.demand.targets import Targets
from selector.served.figures import Figures, between, error_of, figures_of, middle
from tests.calibration.points import C4, point

EASY = point(C4, tps=100.0, ttft_s=0.04)
"""Answers of eight tokens in 0.32 s: 40 ms to the first, 40 ms for each other."""


def level(streams: int) -> Figures:
    """A server whose decode step takes 10 ms and 2 ms more for each stream."""
    step_s = 0.010 + 0.002 * streams
    return Figures(
        ttft_p50_s=step_s,
        ttft_p95_s=2 * step_s,
        tpot_p50_s=step_s,
        tpot_p95_s=step_s,
        e2e_s=8 * step_s,
        output_tps=streams / step_s,
        request_rps=streams / step_s / 8,
        attainment=1.0,
        memory_bytes=1 << 30,
    )


def test_a_point_as_figures() -> None:
    figures = figures_of(EASY, Targets(), 0)
    assert (figures.ttft_p50_s, figures.ttft_p95_s) == pytest.approx((0.04, 0.04))
    assert (figures.tpot_p50_s, figures.e2e_s) == pytest.approx((0.04, 0.32))
    assert figures.output_tps == pytest.approx(100.0, rel=1e-4)
    assert figures.request_rps == pytest.approx(12.5, rel=1e-4)
    assert (figures.attainment, figures.memory_bytes) == (1.0, 1 << 30)


def test_goodput_counts_what_keeps_to_the_targets() -> None:
    slow = replace(EASY.asked[-1], chunks_s=tuple(at + 0.1 for at in EASY.asked[-1].chunks_s))
    one_late = replace(EASY, asked=(*EASY.asked[:-1], slow), end_s=EASY.end_s + 0.1)
    figures = figures_of(one_late, Targets(ttft_s=0.05), 0)
    assert figures.attainment == pytest.approx(19 / 20)
    assert figures.goodput_rps == pytest.approx(figures.request_rps * 19 / 20)
    assert figures_of(one_late, Targets(tpot_s=0.05), 0).attainment == 1.0


def test_a_saturated_load_has_no_times_and_no_goodput() -> None:
    figures = figures_of(replace(EASY, saturated="in flight: 40, and growing"), Targets(), 0)
    assert (figures.ttft_p50_s, figures.tpot_p95_s, figures.e2e_s, figures.goodput_rps) == (inf, inf, inf, 0.0)
    assert figures.output_tps == pytest.approx(100.0, rel=1e-4)
    assert figures.to_json()["ttft_p50_s"] is None
    assert Objective.GOODPUT.of(figures) == inf


def test_an_objective_values_them() -> None:
    figures = figures_of(point(C4, tps=100.0, ttft_s=0.04), Targets(), 0)
    values = {str(objective): objective.of(figures) for objective in Objective}
    assert values == pytest.approx(
        {"latency": 0.32, "ttft": 0.04, "throughput": 0.01, "goodput": 0.08, "memory": 1 << 30}, rel=1e-4
    )


def test_the_median_of_launches_is_taken_of_each_figure() -> None:
    three = middle([figures_of(point(C4, tps=tps), Targets(), 0) for tps in (90.0, 100.0, 120.0)])
    assert three.output_tps == pytest.approx(100.0, rel=1e-4)


@pytest.mark.parametrize("streams", [1, 2, 3, 5, 8, 16, 64])
def test_between_levels_the_form_is_exact_where_a_step_grows_with_its_streams(streams: int) -> None:
    told, truth = between({1: level(1), 8: level(8)}, streams), level(streams)
    assert told.tpot_p50_s == pytest.approx(truth.tpot_p50_s)
    assert told.ttft_p95_s == pytest.approx(truth.ttft_p95_s)
    assert told.output_tps == pytest.approx(truth.output_tps)
    assert told.request_rps == pytest.approx(truth.request_rps)


def test_the_throughput_saturates() -> None:
    told = [between({1: level(1), 8: level(8)}, streams).output_tps for streams in (8, 100, 10_000)]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(500.0, rel=1e-2), "2 ms for each token at the limit"


def test_times_never_fall_with_more_streams() -> None:
    odd = {1: level(4), 4: level(1)}
    assert between(odd, 8).tpot_p50_s == odd[1].tpot_p50_s


def test_the_error_is_told_by_a_level_between_others() -> None:
    levels = {n: level(n) for n in (1, 8, 16)}
    assert error_of({1: level(1), 8: level(8)}) is None
    assert error_of(levels) == pytest.approx(0.0, abs=1e-9)
    off = {**levels, 8: replace(level(8), tpot_p50_s=1.25 * level(8).tpot_p50_s)}
    assert error_of(off) == pytest.approx(0.2)


def test_the_levels_around_are_taken() -> None:
    levels = {1: level(1), 8: replace(level(8), tpot_p50_s=0.03), 16: level(16)}
    assert between(levels, 12).tpot_p50_s == pytest.approx((0.03 + level(16).tpot_p50_s) / 2)
    assert between(levels, 8).tpot_p50_s == pytest.approx(0.03)


def test_a_load_of_one_token_has_no_tpot() -> None:
    one = Load.parse("pp16:tg2:c1")
    made = point(one, tps=10.0, ttft_s=0.1)
    asked = tuple(replace(a, output_tokens=1, chunks_s=a.chunks_s[:1]) for a in made.asked)
    assert figures_of(replace(made, asked=asked), Targets(), 0).tpot_p50_s == 0.0
