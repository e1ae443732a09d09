"""The cost model: planted coefficients come back, nothing is negative, choices hold for workloads never measured."""

import math
import random
from collections import Counter
from itertools import combinations
from statistics import geometric_mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.cost import Cost, Point, covers, fit, points
from calibration.workload import STANDARD, Workload, grid
from tests.approximate import approx
from tests.calibration.launches import measured

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
    assert one_cell == Cost(prefill=(0.0, approx(0.01), 0.0), step=(approx(0.02), 0.0, 0.0))
    one_batch = fit([Point(pp64b1, 0.64, 0.02), Point(pp512b1, 5.12, 0.02)])
    assert one_batch == Cost(prefill=(0.0, approx(0.01), 0.0), step=(approx(0.02), 0.0, 0.0))
    one_length = fit([Point(pp64b1, 0.74, 0.02), Point(pp64b4, 2.66, 0.05)])
    assert one_length.prefill == pytest.approx((0.1, 0.01, 0.0))
    assert one_length.step == pytest.approx((0.01, 0.01, 0.0))


def test_a_cell_without_decoding_answers_for_one_token_only() -> None:
    cost = fit([Point(Workload(prompt_tokens=64, output_tokens=1), 0.64, None)])
    assert cost == Cost(prefill=(0.0, approx(0.01), 0.0), step=None)
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


def best_of_all_supports(rows: "np.ndarray") -> tuple[tuple[int, ...], list[float]]:
    """The non-negative coefficients with the least squares of relative errors, by trying every choice of columns."""
    found: list[tuple[float, tuple[int, ...], list[float]]] = []
    for support in (s for size in (1, 2, 3) for s in combinations(range(3), size)):
        columns = rows[:, support]
        lengths = np.sqrt((columns**2).sum(axis=0))
        solution = np.linalg.lstsq(columns / lengths, np.ones(len(rows)), rcond=None)[0] / lengths
        if (solution > 0).all():
            coefficients = [0.0, 0.0, 0.0]
            for place, value in zip(support, solution, strict=True):
                coefficients[place] = float(value)
            found.append((float(((rows @ coefficients - 1.0) ** 2).sum()), support, coefficients))
    _, support, coefficients = min(found)
    return support, coefficients


@pytest.mark.parametrize("part", ["prefill", "step"])
def test_of_all_choices_of_coefficients_the_best_one_is_found(part: str) -> None:
    """Times that no coefficients explain: now one, now two, now three of them fit best."""
    draw, supports = random.Random(7), Counter[tuple[int, ...]]()
    for _ in range(400):
        points = [
            Point(
                Workload(
                    prompt_tokens=draw.randint(1, 999), output_tokens=draw.randint(2, 99), batch=draw.randint(1, 9)
                ),
                10 ** draw.uniform(-2, 2),
                10 ** draw.uniform(-3, 0),
            )
            for _ in range(draw.randint(3, 6))
        ]
        if part == "prefill":
            rows = [[1.0, w.prompt_tokens * w.batch, w.prompt_tokens**2 * w.batch, ttft] for w, ttft, _ in points]
        else:
            rows = [
                [1.0, w.batch, w.batch * (w.prompt_tokens + 0.5 * w.output_tokens), tpot or 0.0]
                for w, _, tpot in points
            ]
        relative = np.array([[value / row[3] for value in row[:3]] for row in rows])
        support, coefficients = best_of_all_supports(relative)
        supports[support] += 1
        cost = fit(points)
        assert (cost.prefill if part == "prefill" else cost.step) == pytest.approx(coefficients, rel=1e-5, abs=1e-12)
    assert len(supports) == 7
    assert min(supports.values()) >= 3, supports


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


@pytest.mark.parametrize("missing", range(4))
def test_every_corner_must_be_measured(missing: int) -> None:
    between = Workload(prompt_tokens=100, output_tokens=32, batch=2)
    assert covers(grid(), between)
    assert not covers([cell for place, cell in enumerate(grid()) if place != missing], between)


def test_every_standard_workload_is_covered_by_the_cells_made_for_it() -> None:
    assert all(covers(grid([w]), w) for w in STANDARD.values())


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
