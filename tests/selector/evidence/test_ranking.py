"""Candidates in order of their times: medians, ratios within rounds, and what is as fast as another."""

from dataclasses import replace

import pytest

from calibration.cache.cache import Cache
from calibration.measurement import Measurement
from calibration.noise import interval, launch_cv, ratio_cv
from calibration.workload import Workload, grid
from selector.context import DEFAULT
from selector.demand.demand import Demand
from selector.demand.objective import Objective
from selector.evidence.comparison import Ratio, ratio, tied
from selector.evidence.evidence import evidence
from selector.evidence.ranking import Ranked, e2e_s, rank
from tests.selector.answering import CT2, EAGER, HOST, KEY, SDPA
from tests.selector.launches import LOSSY, measurement, rounds

TASK = Workload(prompt_tokens=100, output_tokens=11, batch=2)
"""A launch as slow as 1 takes 0.410 s to the first token and 0.024 s for each of ten others: 0.650 s."""


def ranked(
    cache: Cache,
    *launches: Measurement,
    workload: Workload = TASK,
    objective: Objective = Objective.LATENCY,
    kind: str = "cpu",
) -> tuple[Ranked, ...]:
    """The candidates as `rank` orders them; those that are named first come first in the static order."""
    cache.add(*launches)
    records = evidence(cache, KEY, DEFAULT.environments(HOST)).measured
    labels = dict.fromkeys(launch.candidate.label for launch in launches)
    demand = Demand(workloads=(workload,), objective=objective)
    return rank([records[label] for label in labels], demand, device_kind=kind)


def labels(candidates: tuple[Ranked, ...]) -> list[str]:
    return [candidate.candidate.label for candidate in candidates]


def test_a_candidate_has_the_medians_of_its_launches(cache: Cache) -> None:
    launches = [
        measurement(SDPA, KEY, HOST, slow=2.0, decode=1.0, round_=1, memory=5000),
        measurement(SDPA, KEY, HOST, slow=1.0, decode=9.0, round_=2, memory=1000),
        measurement(SDPA, KEY, HOST, slow=9.0, decode=4.0, round_=3, memory=2000),
    ]
    (found,) = ranked(cache, *launches)
    ends = [2 * 0.410 + 0.24, 0.410 + 9 * 0.24, 9 * 0.410 + 4 * 0.24]
    assert (found.ttft_s, found.tpot_s, found.e2e_s) == pytest.approx((2 * 0.410, 4 * 0.024, ends[1]))
    assert (found.n, found.memory_bytes, found.covered) == (3, 2000, True)
    assert found.ci95 == pytest.approx(interval(ends, launch_cv("cpu", [ends])))
    assert [time for times in found.times for time in times] == pytest.approx(
        [2 * 0.410, ends[0], 0.410, ends[1], 9 * 0.410, ends[2]]
    )


def test_a_launch_that_measured_no_decoding_has_no_time_for_a_second_token(cache: Cache) -> None:
    launch = measurement(SDPA, KEY, HOST)
    silent = tuple(
        replace(cell, samples=tuple(replace(sample, tpot_s=None) for sample in cell.samples)) for cell in launch.cells
    )
    one_token = replace(TASK, output_tokens=1)
    (found,) = ranked(cache, replace(launch, cells=silent), workload=one_token)
    assert (found.ttft_s, found.tpot_s, found.e2e_s) == pytest.approx((0.410, 0.0, 0.410))
    assert ranked(cache, replace(launch, cells=silent)) == ()


def test_who_was_timed_around_the_workload_comes_before_faster_ones_that_were_not(cache: Cache) -> None:
    far = [Workload(prompt_tokens=prompt, output_tokens=32) for prompt in (1000, 1500)]
    order = ranked(
        cache,
        *rounds(EAGER, KEY, HOST, (0.1,), cells=far),
        *rounds(SDPA, KEY, HOST, (3.0,)),
        *rounds(CT2, KEY, HOST, (1.0,)),
    )
    assert labels(order) == [CT2, SDPA, EAGER]
    assert [candidate.covered for candidate in order] == [True, True, False]


def test_who_holds_more_corners_around_the_workload_comes_before_faster_ones(cache: Cache) -> None:
    far = [Workload(prompt_tokens=prompt, output_tokens=32) for prompt in (1000, 1500)]
    order = ranked(
        cache, *rounds(EAGER, KEY, HOST, (0.1,), cells=far), *rounds(SDPA, KEY, HOST, (3.0,), cells=grid()[:2])
    )
    assert [(candidate.candidate.label, candidate.corners) for candidate in order] == [(SDPA, 3), (EAGER, 2)]


@pytest.mark.parametrize(("kind", "first", "ranked_by"), [("cpu", SDPA, 16), ("cuda", CT2, 1)])
def test_beyond_the_measured_batches_the_nearest_ranks_on_an_accelerator_and_the_cost_on_a_cpu(
    cache: Cache, kind: str, first: str, ranked_by: int
) -> None:
    """Of batch 1 the one that decodes faster is faster; its prefill is twice as slow, which 16 prompts multiply."""
    order = ranked(
        cache,
        *rounds(CT2, KEY, HOST, (2.0,), decode=0.1, cells=grid()[:2]),
        *rounds(SDPA, KEY, HOST, (1.0,), decode=3.0, cells=grid()[:2]),
        workload=replace(TASK, batch=16),
        kind=kind,
    )
    by_label = {candidate.candidate.label: candidate for candidate in order}
    assert labels(order) == [first, *({CT2, SDPA} - {first})]
    assert {candidate.ranked_by.workload.batch for candidate in order} == {ranked_by}
    assert by_label[CT2].to_json()["ranked_by"] == f"pp100:tg11:b{ranked_by}"
    # What is told is the time of the workload itself on both.
    assert by_label[CT2].ttft_s == pytest.approx(2 * (0.010 + 0.002 * 1600))
    assert by_label[SDPA].workload.batch == 16
    # At batch 1: 2 x 0.210 s and ten steps of 2.2 ms, beside 0.210 s and ten of 66 ms.
    at_one = (0.210 + 0.660) / (0.420 + 0.022)
    at_16 = (3.210 + 0.660) / (6.420 + 0.022)
    assert ratio(by_label[SDPA], by_label[CT2]).value == pytest.approx(at_16 if kind == "cpu" else at_one)
    assert tied(order[0], order[1:]) == ()


def test_who_was_measured_nearer_to_the_batch_comes_first_on_an_accelerator(cache: Cache) -> None:
    small, large = grid()[:2], [replace(cell, batch=4) for cell in grid()[:2]]
    order = ranked(
        cache,
        *rounds(CT2, KEY, HOST, (0.1,), cells=small),
        *rounds(SDPA, KEY, HOST, (1.0,), cells=large),
        workload=replace(TASK, batch=16),
        kind="cuda",
    )
    assert [(found.candidate.label, found.ranked_by.workload.batch) for found in order] == [(SDPA, 4), (CT2, 1)]
    # They were measured at different batches, so they are compared at the one that is asked for.
    assert ratio(order[0], order[1]).value == pytest.approx(order[0].e2e_s / order[1].e2e_s)


@pytest.mark.parametrize(
    ("bytes_", "first", "as_small"),
    [
        (1031, SDPA, ()),
        (1030, CT2, (SDPA,)),
        (1010, CT2, (SDPA,)),
        (1000, CT2, (SDPA,)),
        (990, CT2, (SDPA,)),
        (500, CT2, ()),
    ],
)
def test_within_3_percent_of_the_least_the_static_order_decides(
    cache: Cache, bytes_: int, first: str, as_small: tuple[str, ...]
) -> None:
    launches = measurement(CT2, KEY, HOST, memory=bytes_), measurement(SDPA, KEY, HOST, memory=1000)
    best, *others = ranked(cache, *launches, objective=Objective.MEMORY)
    assert (best.candidate.label, tied(best, others, Objective.MEMORY)) == (first, as_small)


def test_memory_hardly_varies_so_that_its_ratio_has_no_interval(cache: Cache) -> None:
    small, large = ranked(
        cache,
        *rounds(CT2, KEY, HOST, (1.0, 1.0), memory=2000),
        *rounds(SDPA, KEY, HOST, (1.0, 1.0), memory=3000),
        objective=Objective.MEMORY,
    )
    assert ratio(large, small, Objective.MEMORY) == Ratio(1.5, 1.5, 1.5)
    assert ratio(small, large, Objective.MEMORY).value == pytest.approx(2 / 3)


@pytest.mark.parametrize("objective", [Objective.LATENCY, Objective.TTFT])
def test_candidates_are_compared_within_rounds_by_the_median_of_their_ratios(
    cache: Cache, objective: Objective
) -> None:
    """In the second of four rounds the slow one was not launched, in the fourth the fast one was not."""
    fast, slow = ranked(
        cache, *rounds(CT2, KEY, HOST, (1.0, 1.0, 1.0, 0, 1.0)), *rounds(SDPA, KEY, HOST, (2.0, 0, 9.0, 7.0, 3.0))
    )
    spread = ratio_cv("cpu", [{1: 1.0, 2: 1.0, 3: 1.0, 5: 1.0}, {1: 2.0, 3: 9.0, 4: 7.0, 5: 3.0}])
    low, high = interval([2.0, 9.0, 3.0], spread)
    assert ratio(slow, fast, objective) == pytest.approx((3.0, low, high))


def test_candidates_that_share_no_round_are_compared_by_their_medians(cache: Cache) -> None:
    fast, slow = ranked(
        cache,
        *rounds(CT2, KEY, HOST, (1.0, 1.4, 1.1)),
        *rounds(SDPA, KEY, HOST, (3.0, 2.0, 4.5), calibration="c2"),
    )
    cv = launch_cv("cpu", [[1.0, 1.4, 1.1], [3.0, 2.0, 4.5]])
    slow_low, slow_high = interval([3.0, 2.0, 4.5], cv)
    fast_low, fast_high = interval([1.0, 1.4, 1.1], cv)
    assert ratio(slow, fast) == pytest.approx((3.0 / 1.1, slow_low / fast_high, slow_high / fast_low))


@pytest.mark.parametrize(
    ("times", "as_fast"),
    [
        ((1.02, 1.02, 1.02), True),  # inside the band
        ((1.2, 1.3, 1.25), False),
        ((0.9, 1.3, 1.6), True),  # 1 is inside the interval of the ratios
    ],
)
def test_who_is_as_fast_as_the_first(cache: Cache, times: tuple[float, ...], as_fast: bool) -> None:
    first, other = ranked(cache, *rounds(CT2, KEY, HOST, (1.0, 1.0, 1.0)), *rounds(SDPA, KEY, HOST, times))
    assert tied(first, [other]) == ((SDPA,) if as_fast else ())


def test_launches_of_other_cells_do_not_answer_beside_those_that_bracket_the_workload(cache: Cache) -> None:
    """Nor where they do not bracket it either: then all of them answer."""
    near, far = grid()[:1], grid()[1:2]
    (found,) = ranked(
        cache, *rounds(SDPA, KEY, HOST, (1.0,), cells=near), *rounds(SDPA, KEY, HOST, (0, 2.0), cells=far)
    )
    assert (found.n, found.covered) == (2, False)


def test_a_candidate_is_printed_with_its_times_and_what_is_known_of_its_output(cache: Cache) -> None:
    launch = replace(measurement(SDPA, KEY, HOST, agreement=LOSSY), prepare_s=9.25, artifact_bytes=1 << 20)
    (found,) = ranked(cache, launch)
    assert found.to_json() == {
        "candidate": SDPA,
        "ttft_s": found.ttft_s,
        "tpot_s": found.tpot_s,
        "e2e_s": found.e2e_s,
        "output_tps": pytest.approx(22 / 0.650),
        "ci95": [*found.ci95],
        "n": 1,
        "ranked_by": "pp100:tg11:b2",
        "output": "lossy",
        "kl": 0.012,
        "prepare_s": 9.25,
        "artifact_bytes": 1 << 20,
        "chance": None,
        "cost_per_million_output": None,
        "cost_per_million_total": None,
    }


def test_the_seconds_of_a_workload_by_the_launches_of_one_candidate(cache: Cache) -> None:
    launch = measurement(SDPA, KEY, HOST)
    cache.add(launch)
    (record,) = evidence(cache, KEY, DEFAULT.environments(HOST)).measured.values()
    assert e2e_s(record, TASK) == pytest.approx(0.650)
    prefill_alone = replace(record.launches[0], cost=replace(record.launches[0].cost, step=None))
    assert e2e_s(replace(record, launches=(prefill_alone,)), TASK) is None
