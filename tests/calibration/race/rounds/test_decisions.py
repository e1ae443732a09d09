"""The decisions of a race: exact on written histories, and simulated at the noise of a shared host."""

import random
from dataclasses import dataclass
from statistics import geometric_mean, median

import pytest

from calibration.cost import Cost, Point, fit
from calibration.race.rounds.decisions import (
    History,
    Times,
    ahead,
    eliminate,
    finished,
    first_order,
    leader,
    order,
    rematch,
)
from calibration.workload import STANDARD, Workload, grid

PP64, PP512, *_ = grid()


def launch(prefill: float, decode: float) -> dict[Workload, Times]:
    """Two cells of an engine so many times slower than one that prefills 64 tokens in 0.1 s and steps in 0.02 s."""
    return {PP64: (0.1 * prefill, 0.02 * decode), PP512: (0.8 * prefill, 0.02 * decode)}


def even(times: float) -> dict[Workload, Times]:
    return launch(times, times)


def test_the_first_round_meets_every_backend_before_the_second_variant_of_any() -> None:
    assert first_order(["a:1", "a:2", "a:3", "b:1", "b:2", "c:1"]) == ["a:1", "b:1", "c:1", "a:2", "b:2", "a:3"]


def test_in_the_first_round_lossy_variants_take_turns_with_the_others_fewest_bits_first() -> None:
    labels = ["a:f16", "a:f32", "a:q8", "a:q4", "b:fp32", "b:int8", "b:int4", "c:int8"]
    bits = {"a:q8": 8, "a:q4": 4, "b:int8": 8, "b:int4": 4, "c:int8": 8}
    turns = ["a:f16", "b:fp32", "c:int8", "a:q4", "b:int4", "a:f32", "b:int8", "a:q8"]
    assert first_order(labels, bits) == turns


def test_later_rounds_begin_with_the_leaders_lossy_ones_in_turn() -> None:
    history = {"a": [even(3)], "b": [even(1)], "c": [even(2)], "x": [even(0.9)], "y": [even(0.5)], "z": [even(4)]}
    assert order("abc", history) == ["b", "c", "a"]
    assert order("abcxyz", history, "xyz") == ["b", "y", "c", "x", "a", "z"]
    assert order("nab", {"a": history["a"], "b": history["b"]}) == ["b", "a", "n"]


@pytest.mark.parametrize(
    ("mine", "leads"),
    [
        (launch(0.9, 5), True),  # prefill alone
        (launch(9, 0.9), True),  # decoding alone
        (even(1), True),
        (even(1.1), False),
        ({PP512: launch(9, 9)[PP512], PP64: launch(0.9, 9)[PP64]}, True),
        ({PP512: (1.5, None)}, False),
        ({PP512: (0.7, None)}, True),
        ({}, False),
    ],
)
def test_who_is_the_fastest_so_far_at_anything_is_ahead(mine: dict[Workload, Times], leads: bool) -> None:
    assert ahead(mine, [even(1), even(2), {PP64: even(3)[PP64]}]) is leads
    assert not ahead(mine, [])


@pytest.mark.parametrize(
    ("history", "out"),
    [
        ({}, set()),
        ({"a": [even(1)]}, set()),
        ({"a": [None], "b": [None]}, set()),
        # One launch each: the ratio of two has a spread of 17 %, so 1.39 times slower is beyond doubt.
        ({"a": [even(1)], "b": [even(1.38)], "c": [even(1.40)]}, {"c"}),
        # Two launches of each leave less doubt.
        ({"a": [even(1)] * 2, "b": [even(1.2), even(1.3)], "c": [even(1.3), even(1.35)]}, {"c"}),
        # Ratios within rounds: the machine was twice as slow in the second.
        ({"a": [even(1), even(2)], "b": [even(1.3), even(2.6)]}, {"b"}),
        # Not launched in the same round: not comparable.
        ({"a": [even(1), None], "b": [None, even(3)]}, set()),
        # It must be slower on every cell, and neither its prefill nor its decoding may be ahead.
        ({"a": [launch(1, 1)], "b": [launch(0.5, 4)]}, set()),
        ({"a": [launch(1, 1)], "b": [launch(0.98, 4)]}, {"b"}),
        # One that was out earlier stays out.
        ({"a": [even(1), even(1)], "b": [even(2), None], "c": [even(1.1), even(1.2)]}, {"b"}),
        # Slower than one specialist on every cell is out, though faster than the other on some.
        ({"a": [launch(1, 3)], "b": [launch(3, 0.5)], "c": [launch(5, 2)]}, {"c"}),
    ],
)
def test_out_is_who_is_slower_than_another_on_every_cell_beyond_doubt(history: History, out: set[str]) -> None:
    assert eliminate(history) == out


def test_a_single_cell_where_it_may_win_keeps_a_candidate_in() -> None:
    slow_but_at_pp512 = {PP64: (0.9, 0.2), PP512: (0.8, 0.02)}
    assert eliminate({"a": [even(1)], "b": [slow_but_at_pp512]}) == set()


def test_launches_that_disagree_keep_a_candidate_in() -> None:
    a = [even(1), even(1), even(1)]
    assert eliminate({"a": a, "b": [even(1.25), even(1.3), even(1.28)]}) == {"b"}
    assert eliminate({"a": a, "b": [even(0.8), even(1.3), even(2.1)]}) == set()


def test_the_leader_is_never_out() -> None:
    rounds = [even(1), even(0.5), even(9)]
    history = {"a": [rounds[0], None, rounds[2]], "b": [rounds[2], rounds[0], None], "c": [None, rounds[2], rounds[1]]}
    assert leader(history) not in eliminate(history)


@pytest.mark.parametrize(
    ("history", "rounds", "why"),
    [
        ({}, 3, "none left"),
        ({"a": [even(1)]}, 3, "one left"),
        ({"a": [even(1)], "b": [even(1)]}, 3, None),
        ({"a": [even(1)] * 8, "b": [even(1.005)] * 8}, 9, "tied"),
        ({"a": [even(1)] * 8, "b": [even(1.005)] * 8, "c": [even(1.1)] * 8}, 9, None),
        # Two launches that happen to agree prove nothing.
        ({"a": [even(1)] * 2, "b": [even(1)] * 2}, 3, None),
        ({"a": [even(1), even(1)], "b": [even(1.02), even(0.95)]}, 3, None),
        ({"a": [even(1)] * 3, "b": [even(1.1), even(0.95), even(1)]}, 3, "rounds"),
        ({"a": [even(1)], "b": [even(1)]}, 1, "rounds"),
    ],
)
def test_why_a_race_is_over(history: History, rounds: int, why: str | None) -> None:
    assert finished(history, rounds) == why


def test_overlapping_leaders_meet_again_where_a_load_costs_minutes() -> None:
    history: History = {"a": [even(1.1)], "b": [even(1)], "c": [even(1.2)], "d": [even(4)]}
    assert rematch(history, long_load=True) == ["b", "a", "a", "b"]
    assert rematch(history, long_load=False) == []
    assert rematch({"a": [even(1)], "d": [even(4)]}, long_load=True) == []
    assert rematch({"a": [even(1)] * 8, "b": [even(1.005)] * 8}, long_load=True) == []


@dataclass(frozen=True)
class Outcome:
    regret: float
    launches: int


def engines(draw: random.Random) -> dict[str, Cost]:
    """Two to six engines up to three times apart, prefill and decode each for itself."""
    prefill = (draw.uniform(0.002, 0.02), 10 ** draw.uniform(-4, -2.7), 10 ** draw.uniform(-9, -7.3))
    step = (10 ** draw.uniform(-2.3, -1), 10 ** draw.uniform(-3.5, -2), 10 ** draw.uniform(-8, -6))
    found = {}
    for n in range(draw.randint(2, 6)):
        slow, late = 3 ** draw.random(), 3 ** draw.random()
        found[f"e{n}"] = Cost(
            (slow * prefill[0], slow * prefill[1], slow * prefill[2]), (late * step[0], late * step[1], late * step[2])
        )
    return found


def run(cost: Cost, speed: float, cv: float, draw: random.Random) -> dict[Workload, Times]:
    """A launch: one factor for its process, and in each cell the median of three repeats that vary by 5 %."""
    process = speed * draw.lognormvariate(0, cv)
    noise = [process * median(draw.lognormvariate(0, 0.05) for _ in range(3)) for _ in range(8)]
    return {w: (cost.ttft_s(w) * noise.pop(), cost.tpot_s(w) * noise.pop()) for w in grid()}


def race(draw: random.Random, rounds: int, cv: float) -> Outcome:
    field, out, launches = engines(draw), set[str](), 0
    history: dict[str, list[dict[Workload, Times] | None]] = {label: [] for label in field}
    for _ in range(1, rounds + 1):
        speed = draw.lognormvariate(0, 0.1)  # the machine drifts between rounds, and a little within one
        lap: dict[str, dict[Workload, Times]] = {}
        for place, label in enumerate(order([label for label in field if label not in out], history)):
            lap[label] = run(field[label], speed * (1 + 0.01 * place), cv, draw)
        launches += len(lap)
        for label in field:
            history[label].append(lap.get(label))
        out |= eliminate(history)
        if finished({label: laps for label, laps in history.items() if label not in out}, rounds):
            break
    workload = draw.choice([*STANDARD.values(), *grid()])
    seen = {
        label: median(fit([Point(w, *times) for w, times in lap.items()]).e2e_s(workload) for lap in laps if lap)
        for label, laps in history.items()
    }
    pick = min(seen, key=lambda label: seen[label])
    best = min(cost.e2e_s(workload) for cost in field.values())
    return Outcome(regret=field[pick].e2e_s(workload) / best, launches=launches)


def simulated(rounds: int, cv: float, races: int = 2000) -> tuple[float, float, int]:
    """Geometric mean and 99th percentile of the regret, and the number of launches."""
    draw = random.Random(20261124)
    outcomes = [race(draw, rounds, cv) for _ in range(races)]
    regrets = sorted(o.regret for o in outcomes)
    return geometric_mean(regrets), regrets[int(0.99 * races)], sum(o.launches for o in outcomes)


@pytest.mark.slow
def test_simulated_on_a_shared_host_three_rounds_halve_the_regret_of_one() -> None:
    one_mean, one_p99, one_launches = simulated(1, 0.12)
    mean, p99, launches = simulated(3, 0.12)
    assert mean < 1.02 < one_mean < 1.035
    assert p99 < 1.25 < one_p99
    assert launches < 0.8 * 3 * one_launches


@pytest.mark.slow
def test_simulated_on_a_quiet_host_the_pick_is_the_best() -> None:
    mean, p99, _ = simulated(3, 0.01, races=500)
    assert mean < 1.003
    assert p99 < 1.06
