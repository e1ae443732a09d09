"""The decisions of a race on a ladder: exact on written positions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from calibration.race.ladder.beliefs import Beliefs, Observation
from calibration.race.ladder.position import Ended, Move, Position, round_of
from calibration.rung import Rung
from calibration.workload import Workload

FEW, WHOLE = Rung(layers=2, of=32), Rung(layers=32, of=32)
CELL = Workload(prompt_tokens=512, output_tokens=32)


def seen(label: str, times: float, rung: Rung = WHOLE, round_number: int = 1) -> Observation:
    return Observation(label=label, rung=rung, round=round_number, times={CELL: (0.8 * times, 0.02 * times)})


def position(
    *launches: Observation,
    labels: str = "abc",
    rungs: tuple[Rung, ...] = (WHOLE,),
    seconds: Mapping[tuple[str, Rung], float] | None = None,
    **changes: Any,
) -> Position:
    """Nothing is known before the launches; each costs ten seconds on the whole model and two on a few layers."""
    costs = {(label, rung): 10.0 if rung.whole else 2.0 for label in labels for rung in rungs}
    here = Position(
        prior=Beliefs.vague(list(labels or "a"), rungs, [CELL]).among(list(labels)),
        lossy=frozenset(),
        workloads=(CELL,),
        launches=launches,
        seconds=costs if seconds is None else seconds,
    )
    return replace(here, **changes)


def move(here: Position) -> tuple[tuple[str, Rung], ...]:
    decided = here.next()
    assert isinstance(decided, Move), decided
    return decided.launches


def test_where_nothing_is_known_everybody_is_launched_once_on_few_layers() -> None:
    rungs = (FEW, WHOLE)
    cheap = {(x, r): 100.0 if r.whole else 2.0 for x in "abcdef" for r in rungs}
    first = position(labels="abcdef", rungs=rungs, seconds=cheap)
    assert len(first.untried) == 6
    assert move(first) == (("a", FEW),)
    slow = position(*(seen(x, 9, FEW) for x in "bcde"), seen("a", 1, FEW), labels="abcdef", rungs=rungs, seconds=cheap)
    assert slow.untried == ["f"]


def test_the_pick_climbs_before_a_tied_pair_is_repeated() -> None:
    rungs = (FEW, WHOLE)
    cheap = {(x, r): 30.0 if r.whole else 2.0 for x in "abcd" for r in rungs}
    on_layers = [seen("a", 1.0, FEW), seen("b", 1.5, FEW), seen("c", 1.51, FEW), seen("d", 3.0, FEW)]
    pair = [seen("b", 15.0), seen("c", 15.1)]
    # The exact ones b and c are tied on the whole model; a, which is lossy and leads, was never launched there.
    here = position(*on_layers, *pair, labels="abcd", rungs=rungs, seconds=cheap, lossy=frozenset("a"))
    assert here.untried == []
    assert move(here) == (("a", WHOLE),)


def test_cost_decides_on_which_rung_a_race_begins() -> None:
    rungs = (FEW, WHOLE)
    alike = {(x, r): 10.0 for x in "abc" for r in rungs}
    assert move(position(rungs=rungs, seconds=alike))[0][1] == WHOLE


def test_a_clear_leader_of_whole_launches_is_sure() -> None:
    clear = position(seen("a", 1), seen("b", 3), seen("c", 4))
    assert clear.next() == Ended(why="sure")
    assert clear.picks == [("a",)]
    assert clear.sureness > 0.99
    assert sorted(clear.out) == ["b", "c"]
    assert clear.out["b"] == "2.8 times slower than a (2.1 to 3.7) on the whole model", "a prior draws it in a little"


def test_leaders_that_are_close_meet_again_in_turn() -> None:
    close = position(seen("a", 1), seen("b", 1.1), seen("c", 4))
    assert {label for label, _ in move(close)} == {"a", "b"}
    again = [*close.launches, seen("b", 1.1, WHOLE, 2)]
    assert move(replace(close, launches=again)) == (("a", WHOLE),)
    full = [*again, seen("a", 1, WHOLE, 2)]
    assert move(replace(close, launches=full, sure=0.99)) == (("a", WHOLE), ("b", WHOLE)), "who was last is first"
    assert round_of("a", WHOLE, full) == 3
    assert replace(close, launches=full).next() == Ended(why="tied"), "another launch would tell too little for 0.95"


def test_the_winner_of_a_few_layers_climbs_and_the_losers_do_not() -> None:
    rungs = (FEW, WHOLE)
    cheap = {(x, r): 100.0 if r.whole else 2.0 for x in "abc" for r in rungs}
    few = [seen("a", 0.1, FEW), seen("b", 0.4, FEW), seen("c", 0.5, FEW)]
    here = position(*few, rungs=rungs, seconds=cheap)
    assert ("a", WHOLE) in move(here)
    done = position(*few, seen("a", 1), rungs=rungs, seconds=cheap)
    assert done.next() == Ended(why="sure")


def test_where_the_whole_is_not_affordable_the_answer_stands_on_layers() -> None:
    few = [seen("a", 0.1, FEW), seen("b", 0.4, FEW), seen("c", 0.5, FEW)]
    here = position(*few, rungs=(FEW, WHOLE), seconds={(x, FEW): 2.0 for x in "abc"})
    assert (here.target, here.next()) == (FEW, Ended(why="on layers"))


def test_a_lossy_winner_leaves_the_exact_ones_to_be_decided() -> None:
    launches = [seen("a", 1), seen("b", 2), seen("c", 2.1)]
    assert position(*launches).next() == Ended(why="sure")
    here = position(*launches, lossy=frozenset("a"))
    assert {label for label, _ in move(here)} == {"b", "c"}


@pytest.mark.parametrize(
    ("here", "why"),
    [
        (position(labels="", seconds={}), "none left"),
        (position(seen("a", 1), labels="a"), "one left"),
        (position(left_s=5.0), "budget"),
        (position(seen("a", 1), seen("b", 1.02), labels="ab", rounds=1), "rounds"),
    ],
)
def test_why_a_race_is_over(here: Position, why: str) -> None:
    assert here.next() == Ended(why=why)


def test_a_launch_goes_on_only_while_it_may_be_the_best() -> None:
    here = position(seen("a", 1), labels="ab")
    assert here.goes_on(seen("b", 1.1))
    assert not here.goes_on(seen("b", 5))
