"""Who is best under a load: by the objective, within the targets, and who is as good."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.errors import TargetsMissed, UsageError
from selector.answer import Selection
from selector.demand.objective import Objective
from selector.selection import choose
from tests.selector.answering import CT2, EAGER, HOST, KEY, MODEL, SDPA, answer
from tests.selector.launches import served

LOAD = "pp64:tg32:c8"


def labels(selection: Selection) -> list[str]:
    return [one.candidate.label for one in selection.served]


def test_within_the_band_the_static_order_decides_and_the_others_are_a_tie(cache: Cache) -> None:
    """CT2 comes after SDPA in no order of backends; 2 % are noise."""
    chosen = answer(
        cache,
        *(served(SDPA, KEY, HOST, {LOAD: 100.0}, round_=n) for n in (1, 2)),
        *(served(EAGER, KEY, HOST, {LOAD: 102.0}, round_=n) for n in (1, 2)),
        workload=LOAD,
    )
    assert chosen.tie == ((EAGER,) if chosen.candidate.label == SDPA else (SDPA,))
    assert chosen.served[0].candidate == chosen.candidate


def test_who_is_named_is_no_tie_with_what_is_faster(cache: Cache) -> None:
    launches = served(CT2, KEY, HOST, {LOAD: 80.0}), served(SDPA, KEY, HOST, {LOAD: 240.0})
    chosen = answer(cache, *launches, workload=LOAD, backend=CT2)
    assert (labels(chosen), chosen.tie) == ([CT2, SDPA], ())


def test_what_misses_the_targets_is_no_tie(cache: Cache) -> None:
    launches = served(CT2, KEY, HOST, {LOAD: 240.0}), served(SDPA, KEY, HOST, {LOAD: 241.0})
    missed = answer(cache, *launches, workload=LOAD, ttft_s=0.01)
    assert (len(missed.served), missed.tie) == (2, ())
    assert len(choose(MODEL, cache=cache, host=HOST, workload=LOAD, ttft_s=0.5).tie) == 1
    goodput = choose(MODEL, cache=cache, host=HOST, workload=LOAD, ttft_s=0.5, objective="goodput")
    assert len(goodput.tie) == 1


def test_the_objective_orders(cache: Cache) -> None:
    cache.add(
        served(CT2, KEY, HOST, {LOAD: 240.0}, ttft_s=0.9, memory=2 << 30),
        served(SDPA, KEY, HOST, {LOAD: 160.0}, ttft_s=0.1, memory=1 << 30),
    )
    picks = {
        objective: choose(MODEL, cache=cache, host=HOST, workload=LOAD, objective=objective).candidate.label
        for objective in ("throughput", "latency", "ttft", "memory")
    }
    assert picks == {"throughput": CT2, "latency": CT2, "ttft": SDPA, "memory": SDPA}


def test_goodput_counts_requests_within_the_targets(cache: Cache) -> None:
    cache.add(
        served(CT2, KEY, HOST, {LOAD: 240.0}, ttft_s=0.9),
        served(SDPA, KEY, HOST, {LOAD: 160.0}, ttft_s=0.1),
    )
    chosen = choose(MODEL, cache=cache, host=HOST, workload=LOAD, objective="goodput", ttft_s=0.5)
    assert (chosen.candidate.label, labels(chosen)) == (SDPA, [SDPA, CT2])
    best, other = chosen.served
    assert best.figures.goodput_rps == pytest.approx(160.0 / 32, rel=1e-3)
    assert (other.figures.goodput_rps, other.figures.attainment) == (0.0, 0.0)


def test_goodput_decides_between_numbers_of_threads_too(cache: Cache) -> None:
    """One request of eight comes too late with two threads, which still answer more in time than one thread does."""
    fast = served(SDPA, KEY, HOST, {LOAD: 240.0}, threads=2)
    (point,) = fast.points
    late = tuple(
        replace(one, chunks_s=(one.sent_s + 0.9, *one.chunks_s[1:])) if place % 8 == 0 else one
        for place, one in enumerate(point.asked)
    )
    cache.add(
        served(SDPA, KEY, HOST, {LOAD: 160.0}, threads=1),
        replace(fast, round=2, started_at=fast.started_at + 60, points=(replace(point, asked=late),)),
    )
    chosen = choose(MODEL, cache=cache, host=HOST, workload=LOAD, objective="goodput", ttft_s=0.5)
    assert (chosen.threads, chosen.served[0].figures.attainment) == (2, 0.875)
    assert chosen.served[0].figures.goodput_rps == pytest.approx(7 / 8 * 240.0 / 32, rel=1e-3)
    assert choose(MODEL, cache=cache, host=HOST, workload=LOAD, objective="throughput", ttft_s=0.5).threads == 1


def test_goodput_needs_a_load_and_targets(cache: Cache) -> None:
    with pytest.raises(UsageError, match="goodput is of a load, not of a batch; found pp512:tg128:b1"):
        choose(MODEL, cache=cache, host=HOST, objective="goodput", ttft_s=0.5)
    with pytest.raises(UsageError, match="goodput counts the requests that meet targets; found none"):
        choose(MODEL, cache=cache, host=HOST, objective=Objective.GOODPUT, workload=LOAD)


def test_targets_hold_at_p95_and_come_before_the_objective(cache: Cache) -> None:
    cache.add(
        *(served(CT2, KEY, HOST, {LOAD: 240.0}, ttft_s=0.9, round_=n) for n in (1, 2)),
        *(served(SDPA, KEY, HOST, {LOAD: 160.0}, ttft_s=0.1, round_=n) for n in (1, 2)),
    )
    asked: dict[str, Any] = {"workload": LOAD, "objective": "throughput", "cache": cache, "host": HOST}
    chosen = choose(MODEL, **asked, ttft_s=0.5)
    assert chosen.candidate.label == SDPA
    assert [one.meets for one in chosen.served] == [True, False]
    nobody = choose(MODEL, **asked, ttft_s=0.05)
    assert nobody.candidate.label == SDPA
    [warning] = nobody.warnings
    assert warning == (
        "transformers:sdpa is the nearest, and does not meet TTFT <= 0.05 s: its TTFT p95 of 0.1 s is 2.0 times its"
        " target under pp64:tg32:c8 (< 1 % likely to meet)"
    )
    with pytest.raises(TargetsMissed, match="does not meet TTFT <= 0.05 s"):
        choose(MODEL, **asked, ttft_s=0.05, strict=True)


def test_the_number_of_threads_that_did_best_is_served(cache: Cache) -> None:
    chosen = answer(
        cache,
        served(SDPA, KEY, HOST, {LOAD: 100.0}, threads=2),
        served(SDPA, KEY, HOST, {LOAD: 150.0}, threads=1, round_=2),
        workload=LOAD,
    )
    assert (chosen.threads, len(chosen.served)) == (1, 1)
    assert chosen.served[0].figures.output_tps == pytest.approx(150.0, rel=1e-3)


def test_the_probability_to_be_the_best_sums_to_one(cache: Cache) -> None:
    chosen = answer(
        cache,
        *(served(SDPA, KEY, HOST, {LOAD: 100.0}, round_=n) for n in (1, 2)),
        *(served(CT2, KEY, HOST, {LOAD: 110.0}, round_=n) for n in (1, 2)),
        *(served(EAGER, KEY, HOST, {LOAD: 20.0}, round_=n) for n in (1, 2)),
        workload=LOAD,
    )
    chances = {one.candidate.label: one.p_best for one in chosen.served}
    assert sum(chances.values()) == pytest.approx(1.0, abs=1e-3)
    assert 0.5 < chances[CT2] < 0.99
    assert chances[EAGER] < 0.01


def test_a_price_tells_what_served_tokens_cost(cache: Cache) -> None:
    chosen = answer(cache, served(SDPA, KEY, HOST, {LOAD: 100.0}), workload=LOAD, price_per_hour=3.6)
    costs = chosen.served[0].costs
    assert costs is not None
    # A thousandth a second for 100 tokens; two thirds of all tokens are the prompts'.
    assert costs.output == pytest.approx(10.0, rel=1e-3)
    assert costs.total == pytest.approx(10.0 / 3, rel=1e-3)


def test_memory_hardly_varies_so_only_the_band_ties_it(cache: Cache) -> None:
    chosen = answer(
        cache,
        served(SDPA, KEY, HOST, {LOAD: 160.0}, memory=1000 << 20),
        served(CT2, KEY, HOST, {LOAD: 160.0}, memory=1100 << 20),
        workload=LOAD,
        objective="memory",
    )
    assert (chosen.candidate.label, chosen.tie) == (SDPA, ())
