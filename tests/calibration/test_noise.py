"""How launches vary: intervals that hold the truth as often as they say, on steady and on noisy hosts."""

import math
import random
from itertools import pairwise
from pathlib import Path

import pytest

from calibration.measurement import Measurement
from calibration.noise import OWN_GPU_CV, SHARED_CPU_CV, half_width, interval, launch_cv, prior_cv, ratio_cv
from calibration.workload import Workload
from selector.publish.hosts.host_file import read
from tests.documents.generated import ROOT


def student_below(quantile: float, freedom: int) -> float:
    """Probability that Student's t is below a quantile, by Simpson's rule."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    steps = 2000
    heights = [(1 + (quantile * i / steps) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps + 1)]
    area = heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2])
    return float(0.5 + scale * area * quantile / steps / 3)


@pytest.mark.parametrize("launches", [*range(3, 18), 20, 30, 60])
def test_few_launches_have_the_quantiles_of_students_t(launches: int) -> None:
    _, high = interval([1.0] * launches, SHARED_CPU_CV)
    believed = math.sqrt(0.1 * 0.12**2 / (launches - 1 + 0.1))
    quantile = math.log(high) * math.sqrt(launches) / 1.2533 / believed
    # Beyond the table the first term of an expansion is a little short.
    assert student_below(quantile, launches - 1) == pytest.approx(0.975, abs=5e-5 if launches < 17 else 6e-4)


def test_the_interval_of_one_launch_is_the_prior_spread_between_launches() -> None:
    low, high = interval([2.0], SHARED_CPU_CV)
    assert (low, high) == pytest.approx((2.0 / 1.2651, 2.0 * 1.2651), rel=1e-4)  # exp(1.96 * 0.12)


@pytest.mark.parametrize(
    ("launches", "percent"),
    [(1, 26.52), (2, 18.09), (3, 8.50), (4, 4.39), (5, 2.96), (6, 2.24), (16, 0.65), (40, 0.24)],
)
def test_launches_that_agree_leave_what_the_prior_spread_allows(launches: int, percent: float) -> None:
    low, high = interval([2.0] * launches, SHARED_CPU_CV)
    assert high / 2.0 - 1.0 == pytest.approx(percent / 100, abs=0.00006)
    assert low * high == pytest.approx(4.0)
    assert half_width([2.0] * launches, SHARED_CPU_CV) == (high - low) / 2


def test_the_prior_spread_is_that_of_what_is_compared() -> None:
    assert interval([2.0, 2.0], 0.05) == pytest.approx((2 / 1.07175, 2 * 1.07175), rel=1e-5)  # 1.95996 * 0.05 / sqrt(2)
    assert half_width([2.0, 2.0], 0.05) == pytest.approx(1.07175 - 1 / 1.07175, rel=1e-4)


def test_an_interval_is_that_of_the_observed_spread_where_there_are_many_launches() -> None:
    """Ten launches 2 % apart: Student's t for nine degrees of freedom, times what is believed of the spread."""
    deviation = math.sqrt(10 / 9) * 0.02
    believed = math.sqrt((0.1 * 0.12**2 + 9 * deviation**2) / 9.1)
    factor = math.exp(2.262 * believed * 1.2533 / math.sqrt(10))
    middle = math.cosh(0.02)
    ten = [math.exp(0.02), math.exp(-0.02)] * 5
    assert interval(ten, SHARED_CPU_CV) == pytest.approx((middle / factor, middle * factor), rel=1e-6)
    assert factor == pytest.approx(1.0221616, abs=1e-6)


def test_two_launches_far_apart_have_the_interval_of_their_own_spread() -> None:
    low, high = interval(
        [1.0, math.exp(0.4)], SHARED_CPU_CV
    )  # sqrt(2) * 0.2 apart from their mean on the scale of logarithms
    assert math.log(high / low) == pytest.approx(2 * 1.95996 * 0.4 / math.sqrt(2) / math.sqrt(2))


def test_times_that_are_none_have_no_interval_but_break_nothing() -> None:
    assert interval([0.0, 0.0], SHARED_CPU_CV) == (0.0, 0.0)
    assert interval([0.0, 1.0, 1.0], SHARED_CPU_CV) == (0.0, math.inf)


@pytest.mark.parametrize("launches", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("cv", [0.12, 0.05, 0.02])
def test_the_interval_holds_the_truth_as_often_as_it_says(cv: float, launches: int) -> None:
    draw = random.Random(launches)
    hits, widths = 0, 0.0
    for _ in range(4000):
        low, high = interval([draw.lognormvariate(0, cv) for _ in range(launches)], SHARED_CPU_CV)
        hits += low <= 1.0 <= high
        widths += math.log(high / low) / 2
    assert hits / 4000 > 0.945
    # Never wider than one launch's, and with the machine's steadiness narrower: what three launches of 2 % are for.
    assert widths / 4000 < (1.02 if cv < SHARED_CPU_CV else 1.25) * 1.96 * SHARED_CPU_CV / math.sqrt(2)
    if cv == 0.02 and launches > 2:
        assert widths / 4000 < {3: 0.11, 4: 0.065, 5: 0.045, 6: 0.036}[launches]


@pytest.mark.parametrize(("cv", "launches"), [(0.12, 1), (0.01, 3), (0.03, 5), (0.12, 8)])
def test_the_interval_of_a_quiet_host_and_of_many_launches_holds_the_truth(cv: float, launches: int) -> None:
    draw = random.Random(launches)
    hits = 0
    for _ in range(2000):
        low, high = interval([draw.lognormvariate(0, cv) for _ in range(launches)], SHARED_CPU_CV)
        hits += low <= 1.0 <= high
    assert hits / 2000 > 0.93


def test_a_cpu_is_believed_to_be_shared_and_an_accelerator_to_be_ones_own() -> None:
    assert prior_cv("cpu") == SHARED_CPU_CV == 0.12
    assert {prior_cv(kind) for kind in ("cuda", "rocm", "ascend")} == {OWN_GPU_CV} == {0.025}
    assert launch_cv("cpu", [[1.0], [2.0]]) == pytest.approx(0.12)  # single launches show no spread
    assert ratio_cv("cpu", [{1: 1.0}, {1: 2.0}, {2: 5.0}]) == pytest.approx(0.12 * math.sqrt(2))
    assert ratio_cv("cuda", []) == pytest.approx(0.025 * math.sqrt(2))


def test_the_spread_of_a_host_is_learned_from_the_launches_of_all_candidates() -> None:
    """Six degrees of freedom of the prior, two of the first candidate, one of the second."""
    steady, noisy = [math.exp(0.01 * step) for step in (-1, 0, 1)], [1.0, math.exp(0.2)]
    squares = 6 * 0.12**2 + 2 * 0.01**2 + 0.2**2 / 2
    assert launch_cv("cpu", [steady, [5.0], noisy]) == pytest.approx(math.sqrt(squares / 9))


def test_a_drift_of_the_machine_is_in_its_times_and_not_in_their_ratios() -> None:
    """Six degrees of freedom of the prior; two of ratios that are 1.5 in three rounds, one of 2 and 3 in two."""
    drift = {1: 1.0, 2: 1.5, 3: 2.25}
    often = {**drift, 4: 9.0}
    steadily_slower, other = {round_: 1.5 * time for round_, time in drift.items()}, {2: 3.0, 4: 27.0, 5: 1.0}
    squares = 6 * 2 * 0.12**2 + math.log(3 / 2) ** 2 / 2
    assert ratio_cv("cpu", [steadily_slower, often, other]) == pytest.approx(math.sqrt(squares / 9))


def test_a_time_that_is_none_says_nothing_of_the_spread() -> None:
    assert launch_cv("cuda", [[0.0, 1.0, 1.0]]) == OWN_GPU_CV


RACE = (3, 3, 2, 1, 1, 1, 1, 1)
"""Launches of the candidates of a usual race."""


RACES = 3000


def race_coverage(kind: str, cv: float, race: tuple[int, ...]) -> tuple[float, float]:
    """Of the intervals of many races on a host whose launches differ by `cv`: how many hold the truth; half-width."""
    draw, hits, widths = random.Random(1), 0, 0.0
    for _ in range(RACES):
        times = [[draw.lognormvariate(0, cv) for _ in range(launches)] for launches in race]
        prior = launch_cv(kind, times)
        bounds = [interval(values, prior) for values in times]
        hits += sum(low <= 1.0 <= high for low, high in bounds)
        widths += sum(math.log(high / low) / 2 for low, high in bounds)
    return hits / RACES / len(race), widths / RACES / len(race)


@pytest.mark.parametrize("race", [(1,) * 8, RACE, (2, 2), (3, 3)])
@pytest.mark.parametrize(("kind", "cv"), [("cpu", SHARED_CPU_CV), ("cpu", 0.05), ("cuda", OWN_GPU_CV), ("cuda", 0.008)])
def test_intervals_hold_the_truth_on_a_host_like_its_prior_and_on_a_steadier_one(
    kind: str, cv: float, race: tuple[int, ...]
) -> None:
    assert race_coverage(kind, cv, race)[0] > 0.94


@pytest.mark.parametrize(("kind", "cv", "least"), [("cpu", 0.16, 0.90), ("cuda", 0.05, 0.85), ("cuda", 0.12, 0.80)])
def test_a_host_noisier_than_its_prior_is_found_out(kind: str, cv: float, least: float) -> None:
    """With the prior alone 88, 75 and 50 of 100 intervals hold the truth."""
    assert race_coverage(kind, cv, RACE)[0] > least


def test_a_steady_host_gets_narrow_intervals() -> None:
    """With the prior alone 19 %: five of eight candidates are launched once."""
    assert race_coverage("cpu", 0.02, RACE)[1] < 0.15


@pytest.mark.parametrize("host", sorted((ROOT / "results" / "hosts").glob("*.json")), ids=lambda path: path.stem)
def test_the_next_launch_on_a_real_host_lies_where_the_others_let_one_expect_it(host: Path) -> None:
    """By the launches of the other candidates alone: on each of six hosts more than 95 of 100."""
    races: dict[tuple[str, Workload], dict[tuple[str, ...], list[float]]] = {}
    for outcome in read(host).outcomes:
        if isinstance(outcome, Measurement):
            versions = (outcome.candidate.label, outcome.policy, *map(str, outcome.environment.items()))
            for cell in outcome.cells:
                e2e_s = cell.ttft_s + (cell.workload.output_tokens - 1) * (cell.tpot_s or 0.0)
                races.setdefault((outcome.model, cell.workload), {}).setdefault(versions, []).append(e2e_s)
    hits = []
    for race in races.values():
        for candidate, times in race.items():
            cv = launch_cv("cpu", [others for other, others in race.items() if other != candidate])
            for before, after in pairwise(times):
                low, high = interval([before], cv * math.sqrt(2))
                hits.append(low <= after <= high)
    assert sum(hits) / len(hits) > 0.95
