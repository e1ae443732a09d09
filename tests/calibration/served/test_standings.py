"""Who is served next and who is out, by what launches under load have left."""

from collections.abc import Mapping, Sequence
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
        ({A: (1.0, 1.0), B: (1.2, 1.2)}, [A, B], 2, ""),
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


def test_the_lossy_and_the_others_each_need_one_left() -> None:
    made = standings({A: (1.0, 1.0), B: (2.0, 2.0)}, "a")
    assert made.over([A, B], 2, 3) == "", "the best of all is clear only once its rival is launched no more"
