"""The state of a race, asked launch by launch: who is next, who is out, why it is over. Nothing is launched."""

from dataclasses import replace
from typing import Any

import pytest

from calibration.events import CandidateOut
from calibration.measurement import Candidate, Cell, FailureKind, Measurement, Outcome, Sample
from calibration.race.bounds import Bounds
from calibration.race.known import Known
from calibration.race.rounds.state import Race
from calibration.supervision.launch_spec import LaunchSpec, Skipped
from tests.calibration.launches import failed, measured
from tests.calibration.tiny_engines.racing import CELLS, entry

QUICK = {"a": 1.0, "b": 1.05, "c": 1.1}
"""Seconds of three candidates that overlap."""


def spec(label: str) -> LaunchSpec:
    """Lossy where its variant's name says int8."""
    backend, _, variant = label.partition(":")
    lossy = variant.startswith("int8")
    return replace(entry(variant, lossy=lossy), candidate=Candidate(backend=backend, variant=variant))


def launched(label: str, number: int, seconds: float, *, load_s: float = 1.0, cells: int = len(CELLS)) -> Measurement:
    sample = Sample(ttft_s=seconds, tpot_s=seconds)
    return measured(
        number,
        round=number,
        candidate=spec(label).candidate,
        cells=tuple(Cell(workload=cell, samples=(sample,)) for cell in CELLS[:cells]),
        load_s=load_s,
    )


def run(
    race: Race, seconds: dict[str, float], *, load_s: float = 1.0, budget_spent: bool = False
) -> tuple[list[str], list[str]]:
    """A round in which every candidate takes so long: who was launched, and who is out after it."""
    race.begin_round()
    labels = []
    while next_one := race.next_launch():
        labels.append(next_one.label)
        took = seconds[next_one.label.partition(":")[0]]
        race.add(next_one, launched(next_one.label, race.round, took, load_s=load_s))
    return labels, [out.candidate for out in race.end_round(budget_spent=budget_spent)]


def new(*labels: str, known: Known | None = None, **bounds: Any) -> Race:
    return Race(list(map(spec, labels)), known or Known(), cells=len(CELLS), bounds=Bounds(**bounds))


def test_a_race_of_three_rounds_launches_the_nearest_to_the_leader_first() -> None:
    race = new("c:1", "a:1", "b:1")
    assert run(race, QUICK) == (["c:1", "a:1", "b:1"], [])
    assert run(race, QUICK) == (["a:1", "b:1", "c:1"], [])
    assert race.ended == ""
    assert run(race, QUICK) == (["a:1", "b:1", "c:1"], [])
    assert (race.ended, race.out) == ("rounds", {})


def test_who_is_beaten_is_launched_no_more_and_the_last_one_ends_the_race() -> None:
    race = new("a:1", "b:1")
    assert run(race, {"a": 1.0, "b": 9.0}) == (["a:1", "b:1"], ["b:1"])
    assert (race.ended, race.out) == ("one left", {"b:1": 1})


def test_who_failed_is_launched_no_more_and_is_not_out() -> None:
    race = new("a:1", "b:1", "c:1")
    race.begin_round()
    for _ in range(3):
        due = race.next_launch()
        assert due is not None
        outcome: Outcome = launched(due.label, 1, QUICK[due.candidate.backend])
        if due.label == "b:1":
            outcome = failed(9, candidate=due.candidate, kind=FailureKind.CRASHED, round=1)
        race.add(due, outcome)
    assert (race.next_launch(), race.end_round(budget_spent=False)) == (None, [])
    assert run(race, QUICK)[0] == ["a:1", "c:1"]


@pytest.mark.parametrize("rounds", [2, 3])
def test_a_rematch_launches_both_again_in_either_order(rounds: int) -> None:
    race = new("c:1", "b:1", "a:1", rounds=rounds)
    assert run(race, QUICK, load_s=61.0) == (["c:1", "b:1", "a:1"], ["c:1"])
    assert run(race, QUICK, load_s=61.0) == (["a:1", "b:1"], [])
    if rounds == 3:
        assert race.ended == ""
        assert run(race, QUICK, load_s=61.0) == (["b:1", "a:1"], [])
    assert race.ended == "rounds"


def test_half_a_rematch_puts_nobody_out() -> None:
    """Two rounds would be enough elsewhere."""
    nearly, clearly = {"a": 1.0, "b": 1.35}, {"a": 1.0, "b": 1.5}
    race, rematch = new("a:1", "b:1"), new("a:1", "b:1")
    assert [run(race, nearly), run(race, clearly)] == [(["a:1", "b:1"], []), (["a:1", "b:1"], ["b:1"])]
    run(rematch, nearly, load_s=61.0)
    assert run(rematch, clearly, load_s=61.0) == (["a:1", "b:1"], [])
    assert run(rematch, clearly, load_s=61.0) == (["b:1", "a:1"], ["b:1"])


def test_a_rematch_of_which_one_failed_is_over() -> None:
    race = new("a:1", "b:1")
    run(race, QUICK, load_s=61.0)
    race.begin_round()
    for outcome in (launched("a:1", 2, 1.0), failed(9, candidate=spec("b:1").candidate, round=2)):
        due = race.next_launch()
        assert due is not None
        race.add(due, outcome)
    assert (race.end_round(budget_spent=False), race.ended) == ([], "one left")


@pytest.mark.parametrize(("load_s", "ended"), [(61.0, "load"), (60.0, "one left")])
def test_where_loads_take_minutes_and_one_is_clear_a_round_is_enough(load_s: float, ended: str) -> None:
    race = new("a:1", "b:1")
    run(race, {"a": 1.0, "b": 9.0}, load_s=load_s)
    assert race.ended == ended


def test_one_load_that_takes_minutes_makes_no_rematch() -> None:
    race = new("a:1", "b:1", "c:1", rounds=2)
    race.begin_round()
    for label, load_s in (("a:1", 90.0), ("b:1", 1.0), ("c:1", 1.0)):
        due = race.next_launch()
        assert due is not None
        race.add(due, launched(label, 1, 1.0, load_s=load_s))
    assert race.end_round(budget_spent=False) == []
    assert sorted(run(race, QUICK)[0]) == ["a:1", "b:1", "c:1"]


def test_who_is_out_is_said_with_the_reason() -> None:
    race = new("a:1", "b:1", "c:1", "d:1")
    race.begin_round()
    while due := race.next_launch():
        race.add(due, launched(due.label, 1, {**QUICK, "d": 9.0}[due.candidate.backend], load_s=61.0))
    assert race.end_round(budget_spent=False) == [
        CandidateOut(candidate="d:1", number=1, why="slower on every cell"),
        CandidateOut(candidate="c:1", number=1, why="loading takes minutes, so only the leaders are launched again"),
    ]


def test_in_a_first_round_the_variants_of_a_beaten_backend_come_last() -> None:
    race = new("a:1", "b:1", "a:2", "b:2")
    assert run(race, {"a": 9.0, "b": 1.0})[0] == ["a:1", "b:1", "b:2", "a:2"]


def test_with_one_round_there_is_no_rematch_and_nobody_is_left_out_of_it() -> None:
    race = new("c:1", "b:1", "a:1", rounds=1)
    assert run(race, QUICK, load_s=61.0) == (["c:1", "b:1", "a:1"], [])
    assert race.ended == "rounds"


def test_a_spent_budget_ends_the_race_after_its_round() -> None:
    race = new("a:1", "b:1")
    run(race, QUICK, budget_spent=True)
    assert race.ended == "budget"


def test_a_race_that_the_budget_cut_short_left_something_undecided_unless_that_is_out() -> None:
    for seconds, ended in ((1.0, "budget"), (9.0, "one left")):
        race = new("a:1", "b:1", rounds=1)
        race.begin_round()
        for label, cells, took in (("a:1", 2, 1.0), ("b:1", 1, seconds)):
            due = race.next_launch()
            assert due is not None
            race.add(due, launched(label, 1, took, cells=cells))
        race.end_round(budget_spent=False)
        assert race.ended == ended


def test_a_launch_that_left_nothing_is_tried_again_in_the_next_round() -> None:
    race = new("a:1", "b:1", "c:1")
    race.begin_round()
    while due := race.next_launch():
        race.add(due, Skipped() if due.label == "b:1" else launched(due.label, 1, QUICK[due.candidate.backend]))
    race.end_round(budget_spent=False)
    assert run(race, QUICK)[0] == ["a:1", "c:1", "b:1"]
    run(race, QUICK)
    assert race.ended == "rounds", "it was launched after all"


def test_what_an_earlier_run_launched_is_not_launched_again() -> None:
    known = Known(
        launches=[launched("a:1", 1, 1.0), launched("b:1", 1, 1.05), launched("a:1", 2, 1.0)],
        agreements={label: measured(1).agreement for label in ("a:1", "b:1")},
    )
    race = new("a:1", "b:1", known=known)
    assert race.calibration_id == known.launches[0].calibration_id
    assert run(race, QUICK) == ([], [])
    assert run(race, QUICK) == (["b:1"], [])


def test_who_has_times_but_no_verdict_is_launched_to_be_checked() -> None:
    race = new("a:1", "b:1", known=Known(launches=[launched("a:1", 1, 1.0)]))
    race.begin_round()
    assert [(waiting.label, race.is_timed(waiting)) for waiting in race.waiting] == [("a:1", True), ("b:1", False)]


def test_the_fastest_so_far_at_anything_is_promising() -> None:
    race = new("a:1", "b:1", "x:int8")
    run(race, {"a": 1.0, "b": 1.0, "x": 0.1})
    faster, slower = launched("b:1", 2, 0.9).cells, launched("b:1", 2, 1.1).cells
    assert race.promising(spec("b:1"))(faster)
    assert not race.promising(spec("b:1"))(slower)
    assert not race.promising(spec("x:int8"))(slower), "it races with all"
