"""The cost model: planted coefficients come back, nothing is negative, choices hold for workloads never measured."""

import math
import random
from statistics import geometric_mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launches import measured

from calibration.cost import Cost, Estimate, Point, covers, estimate, fit, interval, points
from calibration.workload import STANDARD, Workload, grid

CHAT = Workload(prompt_tokens=512, output_tokens=128)
ENGINE = Cost(prefill=(0.01, 1.2e-3, 3e-7), step=(0.02, 1e-3, 2e-6))


def cells(cost: Cost, workloads: tuple[Workload, ...] = grid(), slower: float = 1.0) -> list[Point]:
    return [Point(w, slower * cost.ttft_s(w), slower * cost.tpot_s(w)) for w in workloads]


workloads = st.builds(
    Workload, prompt_tokens=st.integers(1, 8192), output_tokens=st.integers(2, 2048), batch=st.integers(1, 64)
)
seconds = st.floats(1e-6, 1e4)
measured_cells = st.lists(st.builds(Point, workloads, seconds, st.none() | seconds), min_size=1, max_size=8)


@pytest.mark.parametrize(
    "planted",
    [
        ENGINE,
        Cost(prefill=(0.0, 1e-4, 0.0), step=(5e-3, 0.0, 0.0)),
        Cost(prefill=(0.5, 0.0, 1e-8), step=(0.0, 2e-3, 1e-6)),
        Cost(prefill=(1e-3, 0.0, 0.0), step=(0.0, 0.0, 3e-6)),
    ],
)
@pytest.mark.parametrize(
    "grid", [grid(), grid(gpu=True), grid([CHAT, Workload(prompt_tokens=64, output_tokens=8, batch=2)])]
)
def test_planted_coefficients_come_back(planted: Cost, grid: tuple[Workload, ...]) -> None:
    found = fit(cells(planted, grid))
    assert found.prefill == pytest.approx(planted.prefill, rel=1e-6, abs=1e-15)
    assert found.step == pytest.approx(planted.step, rel=1e-6, abs=1e-15)


def test_end_to_end_is_the_sum_of_the_first_token_and_of_every_step() -> None:
    assert ENGINE.step is not None
    d0, d1, d2 = ENGINE.step
    for workload in STANDARD.values():
        contexts = range(workload.prompt_tokens + 1, workload.prompt_tokens + workload.output_tokens)
        steps = sum(d0 + workload.batch * (d1 + d2 * context) for context in contexts)
        assert ENGINE.e2e_s(workload) == pytest.approx(ENGINE.ttft_s(workload) + steps, rel=1e-12)


def test_cells_that_cannot_tell_coefficients_apart_get_the_simpler_explanation() -> None:
    pp64b1, pp512b1, pp64b4, _ = grid()
    one_cell = fit([Point(pp64b1, 0.64, 0.02)])
    assert one_cell == Cost(prefill=(0.0, pytest.approx(0.01), 0.0), step=(pytest.approx(0.02), 0.0, 0.0))
    one_batch = fit([Point(pp64b1, 0.64, 0.02), Point(pp512b1, 5.12, 0.02)])
    assert one_batch == Cost(prefill=(0.0, pytest.approx(0.01), 0.0), step=(pytest.approx(0.02), 0.0, 0.0))
    one_length = fit([Point(pp64b1, 0.74, 0.02), Point(pp64b4, 2.66, 0.05)])
    assert one_length.prefill == pytest.approx((0.1, 0.01, 0.0))
    assert one_length.step == pytest.approx((0.01, 0.01, 0.0))


def test_a_cell_without_decoding_answers_for_one_token_only() -> None:
    cost = fit([Point(Workload(prompt_tokens=64, output_tokens=1), 0.64, None)])
    assert cost == Cost(prefill=(0.0, pytest.approx(0.01), 0.0), step=None)
    assert cost.e2e_s(Workload(prompt_tokens=128, output_tokens=1)) == pytest.approx(1.28)
    with pytest.raises(ValueError, match=r"^needs a cell with a time per output token; found none$"):
        cost.e2e_s(CHAT)
    with pytest.raises(ValueError, match=r"^needs a cell with a positive time to the first token; found none$"):
        fit([])


@given(measured_cells)
def test_coefficients_are_never_negative_and_times_grow_with_the_work(points: list[Point]) -> None:
    cost = fit(points)
    assert min(cost.prefill) >= 0.0
    assert cost.step is None or min(cost.step) >= 0.0
    for workload, *_ in points:
        prompt, output, batch = workload.prompt_tokens, workload.output_tokens, workload.batch
        more = Workload(prompt_tokens=prompt + 1, output_tokens=output, batch=batch + 1)
        assert cost.ttft_s(workload) <= cost.ttft_s(more)
        if cost.step:
            longer = Workload(prompt_tokens=prompt, output_tokens=output + 1, batch=batch)
            assert cost.e2e_s(workload) <= cost.e2e_s(longer) * (1 + 1e-12)
            assert cost.tpot_s(workload) <= cost.tpot_s(more)


@given(measured_cells)
def test_no_other_non_negative_coefficients_fit_better(points: list[Point]) -> None:
    """Karush, Kuhn and Tucker: the gradient is 0 where a coefficient is positive, and >= 0 where it is 0."""
    rows = [(1.0, w.prompt_tokens * w.batch, w.prompt_tokens**2 * w.batch, ttft) for w, ttft, _ in points]
    columns = [[row[i] / row[3] for row in rows] for i in range(3)]
    found = fit(points).prefill
    errors = [sum(c * x for c, x in zip(column, found, strict=True)) - 1.0 for column in zip(*columns, strict=True)]
    for column, coefficient in zip(columns, found, strict=True):
        length = math.sqrt(sum(c * c for c in column))
        gradient = sum(c * e for c, e in zip(column, errors, strict=True)) / length
        assert gradient > -1e-4
        if coefficient * length > 1e-3:
            assert abs(gradient) < 1e-4


@pytest.mark.parametrize(
    ("workload", "inside"),
    [
        ("pp64:tg32:b1", True),
        ("pp300:tg200:b3", True),
        ("chat", True),  # 640 tokens of context, 544 measured
        ("pp64:tg616:b1", True),
        ("pp64:tg617:b1", False),
        ("pp512:tg169:b4", False),
        ("pp513:tg1:b1", False),
        ("pp63:tg32:b1", False),
        ("pp64:tg32:b5", False),
    ],
)
def test_the_default_cells_cover(workload: str, inside: bool) -> None:
    assert covers(grid(), Workload.parse(workload)) is inside


def test_two_calibrations_of_different_corners_do_not_cover_what_lies_between_them() -> None:
    small, large = (
        Workload(prompt_tokens=64, output_tokens=32),
        Workload(prompt_tokens=2048, output_tokens=32, batch=16),
    )
    assert not covers([small, large], Workload(prompt_tokens=64, output_tokens=32, batch=16))
    assert covers([small, large], small)
    assert not covers([], small)


def test_every_standard_workload_is_covered_by_the_cells_made_for_it() -> None:
    assert all(covers(grid([w]), w) for w in STANDARD.values())


def test_an_estimate_is_the_median_of_its_launches() -> None:
    launches = [cells(ENGINE, slower=s) for s in (1.0, 1.1, 0.8)]
    found = estimate(launches, CHAT)
    assert found == Estimate(
        ttft_s=pytest.approx(ENGINE.ttft_s(CHAT)),
        tpot_s=pytest.approx(ENGINE.tpot_s(CHAT)),
        e2e_s=pytest.approx(ENGINE.e2e_s(CHAT)),
        ci95=found.ci95,
        n=3,
    )
    assert found.ci95[0] < 0.9 * found.e2e_s < 1.1 * found.e2e_s < found.ci95[1]


def test_launches_that_cannot_answer_do_not_count() -> None:
    prefill_only = [Point(w, t, None) for w, t, _ in cells(ENGINE)]
    assert estimate([prefill_only, cells(ENGINE)], CHAT).n == 1
    with pytest.raises(
        ValueError, match=r"^needs a launch that measured what pp512:tg128:b1 asks for; found none of 1$"
    ):
        estimate([prefill_only], CHAT)


def test_the_interval_of_one_launch_is_the_prior_spread_between_launches() -> None:
    low, high = interval([2.0])
    assert (low, high) == pytest.approx((2.0 / 1.2651, 2.0 * 1.2651), rel=1e-4)  # exp(1.96 * 0.12)


def test_steady_launches_narrow_the_interval() -> None:
    widths = [math.log(high / low) for low, high in (interval([1.0, 1.001, 0.999][:n]) for n in (1, 2, 3))]
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < 0.01


@pytest.mark.parametrize(("cv", "launches"), [(0.12, 1), (0.12, 2), (0.12, 3), (0.01, 3), (0.03, 5), (0.12, 8)])
def test_the_interval_holds_the_truth_as_often_as_it_says(cv: float, launches: int) -> None:
    draw = random.Random(launches)
    hits = 0
    for _ in range(2000):
        low, high = interval([draw.lognormvariate(0, cv) for _ in range(launches)])
        hits += low <= 1.0 <= high
    assert hits / 2000 > 0.90


def test_points_are_the_medians_of_clean_samples() -> None:
    launch = measured(1)
    clean = [s for s in launch.cells[0].samples if not s.dirty]
    assert points(launch)[0] == Point(
        grid()[0], sum(s.ttft_s for s in clean) / 2, sum(s.tpot_s or 0.0 for s in clean) / 2
    )


def roofline(draw: random.Random) -> tuple[float, ...]:
    """An engine as hardware sees it: call overheads, weights read once a step, compute and KV bytes a token."""
    return tuple(
        10 ** draw.uniform(low, high)
        for low, high in ((-3, -1.5), (-4, -3), (-9, -7.5), (-2.5, -1), (-4, -2), (-7, -5))
    )


def times(engine: tuple[float, ...], w: Workload) -> tuple[float, float]:
    call, token, attention, weights, compute, kv = engine
    tokens = w.prompt_tokens * w.batch
    context = w.prompt_tokens + w.output_tokens / 2
    # Not our model: short prefills and small batches hide behind reading the weights.
    ttft = call + max(weights, tokens * token) + attention * w.prompt_tokens * tokens
    return ttft, call / 4 + max(weights, compute * w.batch) + kv * context * w.batch


def test_the_pick_for_workloads_never_measured_is_nearly_the_best_engine() -> None:
    draw, regrets = random.Random(0), []
    for _ in range(300):
        engines = [roofline(draw) for _ in range(draw.randint(2, 5))]
        costs = [fit([Point(w, *times(e, w)) for w in grid()]) for e in engines]
        for _ in range(10):
            w = Workload(
                prompt_tokens=draw.randint(64, 512), output_tokens=draw.randint(2, 128), batch=draw.randint(1, 4)
            )
            truth = [ttft + (w.output_tokens - 1) * tpot for ttft, tpot in (times(e, w) for e in engines)]
            guesses = [c.e2e_s(w) for c in costs]
            regrets.append(truth[guesses.index(min(guesses))] / min(truth))
    assert geometric_mean(regrets) < 1.005
    assert sorted(regrets)[int(0.99 * len(regrets))] < 1.10
