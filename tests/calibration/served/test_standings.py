"""Who is served next and who is out, by what launches under load have left."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

import pytest

from calibration.served.standings import Arm, Standings

A, A1, B, C = (Arm(label=label, threads=threads) for label, threads in (("a", 2), ("a", 1), ("b", 2), ("c", 2)))
LOAD = "pp16:tg8:c4"


def standings(values: Mapping[Arm, Sequence[float]], *lossy: str, loads: tuple[str, ...] = (LOAD,)) -> Standings:
    """One value of each load for each round; None of a round is told by 0."""
    history = {
        arm: {number: dict.fromkeys(loads, value) for number, value in enumerate(of_arm, start=1) if value}
        for arm, of_arm in values.items()
    }
    return Standings(history=history, loads=loads, lossy=frozenset(lossy), device_kind="cpu")


def test_the_best_come_first() -> None:
    assert standings({B: (1.2,), A: (1.0,), C: (inf,)}).ordered() == [A, B, C]


def test_one_round_puts_out_who_is_far_behind() -> None:
    """On a CPU a ratio of two launches varies by a CV of 17 %, before any was seen."""
    assert set(standings({A: (1.0,), B: (1.3,), C: (1.6,)}).out()) == {C}
    assert standings({A: (1.0,), C: (1.6,)}).out() == {C: f"1.60 times worse than a with 2 threads for {LOAD}"}


def test_more_rounds_put_out_who_is_a_little_behind() -> None:
    steady = {A: (1.0, 1.1, 0.9, 1.0), B: (1.3, 1.43, 1.17, 1.3)}
    assert set(standings(steady).out()) == {B}, "the ratio is 1.3 in every round, however the machine drifts"


def test_who_was_disturbed_is_out_only_where_that_cannot_be_why() -> None:
    """One busy process beside an engine slows it three times at most."""
    values = {A: {1: {LOAD: 1.0}}, B: {1: {LOAD: 2.0}}, C: {1: {LOAD: 4.0}}}
    disturbed = Standings(
        history=values, loads=(LOAD,), lossy=frozenset(), device_kind="cpu", doubtful=frozenset({B, C})
    )
    assert set(disturbed.out()) == {C}
    calm = Standings(history=values, loads=(LOAD,), lossy=frozenset(), device_kind="cpu")
    assert set(calm.out()) == {B, C}
    leader = Standings(history=values, loads=(LOAD,), lossy=frozenset(), device_kind="cpu", doubtful=frozenset({A}))
    assert set(leader.out()) == {C}


def test_who_took_one_load_of_two_is_compared_by_it() -> None:
    """The budget ended before the second."""
    both = {A: {1: {"x": 1.0}}, B: {1: {"x": 2.0, "y": 1.0}}}
    made = Standings(history=both, loads=("x", "y"), lossy=frozenset(), device_kind="cpu")
    assert (set(made.leaders()), made.out()) == ({A, B}, {})


def test_who_is_within_the_band_is_never_out() -> None:
    assert standings({A: (1.0,) * 5, B: (1.02,) * 5}).out() == {}


def test_what_takes_the_load_at_no_rate_is_out() -> None:
    assert standings({A: (1.0,), B: (inf,)}).out() == {B: f"not as good as a with 2 threads for {LOAD}"}
    assert standings({A: (inf,), B: (inf,)}).out() == {}


def test_a_lossy_candidate_puts_no_other_out() -> None:
    assert standings({A: (1.0,), B: (2.0,)}, "a").out() == {}
    assert set(standings({A: (1.0,), B: (2.0,), C: (4.0,)}, "a").out()) == {C}
    assert set(standings({A: (1.0,), B: (2.0,)}, "b").out()) == {B}


def test_the_best_at_one_load_of_two_stays() -> None:
    both = {A: {1: {"x": 1.0, "y": 2.0}}, B: {1: {"x": 2.0, "y": 1.0}}, C: {1: {"x": 2.0, "y": 4.0}}}
    made = Standings(history=both, loads=("x", "y"), lossy=frozenset(), device_kind="cpu")
    assert set(made.leaders()) == {A, B}
    assert set(made.out()) == {C}


def test_threads_are_arms_of_their_own() -> None:
    """The second arm was first launched in round 2, and is compared there."""
    made = standings({A: (1.0, 1.3), A1: (0.0, 1.0)})
    assert made.out() == {}
    assert made.leaders() == [A1]


@pytest.mark.parametrize(
    ("values", "standing", "rounds", "why"),
    [
        ({A: (1.0,), B: (1.0,)}, [A, B], 1, ""),
        ({A: (1.0,)}, [A], 1, ""),
        ({A: (1.0, 1.0)}, [A], 2, "one left"),
        ({A: (1.0, 1.0), B: (1.1, 1.1)}, [A, B], 2, ""),
        ({A: (1.0,) * 3, B: (1.2,) * 3}, [A, B], 3, "rounds"),
        ({A: (1.2,) * 3, A1: (0.0, 0.0, 1.0)}, [A, A1], 3, ""),
        ({A: (1.2,) * 3, A1: (0.0, 0.0, 1.0, 1.0)}, [A, A1], 4, "rounds"),
        ({A: (1.0, 1.0)}, [], 2, "none left"),
    ],
)
def test_when_it_is_over(values: Mapping[Arm, Sequence[float]], standing: list[Arm], rounds: int, why: str) -> None:
    assert standings(values).over(standing, rounds, 3) == why


def test_a_leader_that_was_launched_once_has_one_round_more() -> None:
    made = standings({A: (1.2, 1.2), A1: (0.0, 1.0)})
    assert made.short(2) == [A1]
    assert made.short(1) == [], "where one round was asked for, one launch is enough"


def test_what_cannot_be_told_apart_is_tied() -> None:
    """Launches on an accelerator of one's own differ by 2.5 %, and these agree."""
    history = {arm: {number: {LOAD: 1.0} for number in range(1, 7)} for arm in (A, B)}
    made = Standings(history=history, loads=(LOAD,), lossy=frozenset(), device_kind="cuda")
    assert made.over([A, B], 6, 9) == "tied"


def test_the_lossy_and_the_others_each_need_their_best() -> None:
    made = standings({A: (1.0, 1.0), B: (2.0, 2.0)}, "a")
    assert made.over([A, B], 2, 3) == "sure", "a is the best of all, and b of those that are exact"
    near = standings({A: (1.0, 1.0), B: (1.1, 1.1)}, "a")
    assert near.over([A, B], 2, 3) == "", "whether a is better than b is not clear"


STEADY = {A: (1.0, 1.1, 0.9), B: (1.3, 1.43, 1.17)}


def test_how_sure_it_is_follows_from_the_ratios() -> None:
    """On a CPU two launches may differ by 12 %; the more rounds agree, the surer it is."""
    once, twice, thrice = (standings({arm: of_arm[:n] for arm, of_arm in STEADY.items()}) for n in (1, 2, 3))
    assert once.sureness == pytest.approx(0.958, abs=0.005)
    assert once.sureness < twice.sureness < thrice.sureness < 1.0
    assert standings({A: (1.0,)}).sureness == 1.0, "nobody else is there"
    assert standings({A: (inf,)}).sureness == 0.0, "nobody can"
    assert standings({A: (1.0,), B: (inf,)}).sureness == 1.0
    assert standings({A: (1.0,) * 3, B: (1.0,) * 3}).sureness > 0.5, "within the band either is right"


def test_each_load_and_the_lossy_must_be_sure() -> None:
    both = {A: {1: {"x": 1.0, "y": 2.0}}, B: {1: {"x": 3.0, "y": 1.9}}}
    made = Standings(history=both, loads=("x", "y"), lossy=frozenset(), device_kind="cpu")
    assert made.sureness == Standings(history=both, loads=("y",), lossy=frozenset(), device_kind="cpu").sureness < 0.8
    near = {A: (1.0, 1.0), B: (1.1, 1.1), C: (1.12, 1.12)}
    assert standings(near, "a").sureness < standings(near).sureness, "b is hardly better than c"


def test_a_disturbed_launch_proves_little() -> None:
    values = {A: {1: {LOAD: 1.0}}, B: {1: {LOAD: 2.0}}}
    calm = Standings(history=values, loads=(LOAD,), lossy=frozenset(), device_kind="cpu")
    disturbed = Standings(history=values, loads=(LOAD,), lossy=frozenset(), device_kind="cpu", doubtful=frozenset({B}))
    assert calm.sureness > 0.99
    assert disturbed.sureness < 0.05


def test_who_wants_to_be_surer_keeps_more_candidates_in() -> None:
    values = {A: {1: {LOAD: 1.0}}, B: {1: {LOAD: 1.5}}}
    out = {
        sure: set(Standings(history=values, loads=(LOAD,), lossy=frozenset(), device_kind="cpu", sure=sure).out())
        for sure in (0.5, 0.95, 0.99)
    }
    assert out == {0.5: {B}, 0.95: {B}, 0.99: set()}


@pytest.mark.parametrize(("sure", "why"), [(0.8, "sure"), (0.95, "sure"), (0.99, "")])
def test_it_is_over_when_it_is_as_sure_as_asked(sure: float, why: str) -> None:
    made = replace(standings({A: (1.0, 1.0), B: (1.2, 1.2)}), sure=sure)
    assert made.sureness == pytest.approx(0.972, abs=0.01)
    assert made.over([A, B], 2, 9) == why
    assert replace(standings({A: (1.0,), B: (1.2,)}), sure=0.5).over([A, B], 1, 9) == "", "the leader is launched twice"


def test_where_all_take_all_rounds_nobody_is_out_and_nothing_ends_it_early() -> None:
    made = replace(standings({A: (1.0, 1.0), C: (9.0, 9.0)}), full=True)
    assert made.out() == {}
    assert [made.over([A, C], rounds, 3) for rounds in (1, 2, 3)] == ["", "", "rounds"]
    assert made.over([], 2, 3) == "none left"
    assert replace(standings({A: (1.0, 1.0)}), full=True).over([A], 2, 3) == ""


def test_a_trace_is_told_by_its_name() -> None:
    made = replace(standings({A: (1.0,), C: (1.6,)}), titles={LOAD: "trace:monday 9 requests in 1 min"})
    assert made.out() == {C: "1.60 times worse than a with 2 threads for trace:monday 9 requests in 1 min"}


def test_what_is_said_to_be_sure_is_right_as_often() -> None:
    """Simulated: four candidates whose launches differ by 12 %, as on a shared CPU, up to nine rounds."""
    draw, sure, right = random.Random(7), 0, 0
    for _ in range(300):
        truth = {Arm(label=name, threads=2): draw.uniform(1.0, 1.5) for name in "abcd"}
        values: dict[Arm, list[float]] = {arm: [] for arm in truth}
        for rounds in range(1, 10):
            for arm, of_arm in values.items():
                of_arm.append(truth[arm] * draw.lognormvariate(0.0, 0.12))
            made = standings(values)
            if made.over(list(truth), rounds, 99) == "sure":
                sure += 1
                right += truth[made.leaders()[0]] <= 1.03 * min(truth.values())
                break
    assert sure > 100
    assert right / sure > 0.93
