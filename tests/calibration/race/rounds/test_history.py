"""What the launches of a calibration say: who comes next, who is out, who races with whom, where one goes on."""

from dataclasses import fields, replace
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.environments.versions import POLICY
from calibration.measurement import (
    Agreement,
    Candidate,
    Cell,
    Check,
    Failure,
    Measurement,
    Outcome,
    OutputVerdict,
    Sample,
)
from calibration.race.known import Known, resumable
from calibration.race.rounds.history import (
    ahead,
    beaten,
    failed,
    hopeful_first,
    launches_by_round,
    order,
    outside,
    over,
    rematch,
    rivals,
)
from calibration.supervision.launch_spec import LaunchSpec
from tests.calibration import launches as numbered
from tests.calibration.launches import IDENTITY, measured
from tests.calibration.tiny_engines.racing import CELLS, entry


def candidate(label: str) -> LaunchSpec:
    """Lossy where its name says int8 or int4."""
    backend, _, variant = label.partition(":")
    lossy = variant.startswith("int")
    return replace(
        entry(variant, lossy=lossy, precision=variant if lossy else "model"),
        candidate=Candidate(backend=backend, variant=variant),
    )


def launched(label: str, times: float, round_: int = 1, **changes: Any) -> Measurement:
    """So many times slower than a second."""
    sample = Sample(ttft_s=times, tpot_s=times, foreign_cores=0.0, dirty=False)
    cells = tuple(Cell(workload=w, samples=(sample,)) for w in CELLS)
    return measured(1, **{"round": round_, "candidate": candidate(label).candidate, "cells": cells, **changes})


def failure(label: str, **changes: Any) -> Failure:
    return numbered.failed(1, candidate=candidate(label).candidate, **changes)


def times(seconds: float) -> dict[Any, tuple[float, float]]:
    """The cells of a launch so many times slower than a second."""
    return dict.fromkeys(CELLS, (seconds, seconds))


@pytest.mark.parametrize(
    ("known", "order"),
    [
        ({}, "a:2 a:int8 b:2 b:int8"),
        ({"a:1": 1.0, "b:1": 1.0}, "a:2 a:int8 b:2 b:int8"),
        # All of its like that a has launched is beaten: the other comes last. Of its lossy ones nothing is known.
        ({"a:1": 3.0, "b:1": 1.0}, "a:int8 b:2 b:int8 a:2"),
        ({"a:1": 1.0, "a:3": 3.0, "b:1": 1.0}, "a:2 a:int8 b:2 b:int8"),
        ({"a:1": 1.0, "a:int4": 3.0, "b:1": 1.0}, "a:2 b:2 b:int8 a:int8"),
        # A lossy one puts no other out.
        ({"a:1": 3.0, "b:int4": 1.0}, "a:2 a:int8 b:2 b:int8"),
    ],
)
def test_variants_of_a_backend_that_is_beaten_come_last(known: dict[str, float], order: str) -> None:
    labels = ["a:2", "a:int8", "b:2", "b:int8"]
    waiting = [candidate(label) for label in labels]
    candidates = [*map(candidate, known), *waiting]
    launches = [launched(label, times) for label, times in known.items()]
    assert [spec.label for spec in hopeful_first(candidates, waiting, launches)] == order.split()


def test_only_the_first_round_says_who_has_little_hope() -> None:
    known, waiting = [candidate("a:1"), candidate("b:1")], [candidate("a:2"), candidate("b:2")]
    launches = [launched("a:1", 3.0), launched("b:1", 1.0), launched("a:1", 0.3, 2), launched("b:1", 1.0, 2)]
    assert [spec.label for spec in hopeful_first([*known, *waiting], waiting, launches)] == ["b:2", "a:2"]


def test_who_failed_is_who_has_a_failure() -> None:
    outcomes: list[Outcome] = [launched("a:1", 1.0), failure("b:1"), launched("b:1", 1.0)]
    assert [failed(outcomes, candidate(label)) for label in ("a:1", "b:1", "c:1")] == [False, True, False]


def test_the_first_round_takes_lossy_candidates_in_turn_the_fewest_bits_first() -> None:
    candidates = [candidate(label) for label in ("a:1", "a:2", "a:int8", "a:int4")]
    assert order(candidates, candidates, [], 1) == ["a:1", "a:int4", "a:2", "a:int8"]


def test_a_later_round_goes_by_the_rounds_before_it_alone() -> None:
    candidates = [candidate(label) for label in ("b:1", "a:1", "c:int8")]
    first = [launched("b:1", 2.0), launched("a:1", 1.0), launched("c:int8", 0.5)]
    begun = [launched("b:1", 0.01, 2)]
    assert order(candidates, candidates, first + begun, 2) == ["a:1", "c:int8", "b:1"]
    assert order(candidates, candidates, first + begun, 3) == ["b:1", "c:int8", "a:1"]
    assert order(candidates, candidates[:2], first, 2) == ["a:1", "b:1"]


def test_launches_stand_in_their_round() -> None:
    candidates = [candidate(label) for label in ("a:1", "b:1", "c:1", "d:1")]
    outcomes: list[Outcome] = [
        launched("a:1", 1.0),
        launched("b:1", 2.0, 2),
        launched("a:1", 3.0, 2),
        launched("a:1", 4.0, 3),
        launched("c:1", 5.0),
        failure("c:1", round=2),
        launched("d:1", 6.0, 3),
    ]
    assert launches_by_round(candidates, outcomes, 2) == {"a:1": [times(1.0), times(3.0)], "b:1": [None, times(2.0)]}


@pytest.mark.parametrize(("label", "seconds"), [("a:1", [2.0]), ("a:int8", [1.0, 2.0, 4.0]), ("c:1", [1.0, 2.0])])
def test_a_candidate_that_is_not_lossy_has_no_lossy_rivals(label: str, seconds: list[float]) -> None:
    candidates = [candidate(name) for name in ("a:1", "b:1", "a:int8", "b:int4", "c:1")]
    outcomes: list[Outcome] = [
        launched("a:1", 1.0),
        launched("b:1", 2.0),
        launched("a:int8", 3.0),
        launched("b:int4", 4.0),
        failure("c:1"),
    ]
    assert rivals(candidates, outcomes, candidate(label)) == [times(rival) for rival in seconds]


def test_a_launch_is_ahead_of_its_rivals_by_its_cells() -> None:
    assert ahead(launched("a:1", 0.9).cells, [times(1.0)])
    assert not ahead(launched("a:1", 1.1).cells, [times(1.0)])


CANDIDATES = [candidate(label) for label in ("a:1", "b:1", "a:int8", "b:int8")]


def test_a_lossy_candidate_is_beaten_by_any_the_others_by_their_like() -> None:
    rounds = {"a:1": [times(1.0)], "b:1": [times(1.1)], "a:int8": [times(0.1)], "b:int8": [times(3.0)]}
    assert beaten(CANDIDATES, rounds) == {"b:int8"}
    assert beaten(CANDIDATES, rounds | {"b:1": [times(3.0)]}) == {"b:1", "b:int8"}
    # By one that is not lossy, too.
    assert beaten(CANDIDATES, {"a:1": [times(1.0)], "a:int8": [times(3.0)]}) == {"a:int8"}


@pytest.mark.parametrize(
    ("seconds", "rounds", "why"),
    [
        ({}, 3, "none left"),
        ({"a:1": 1.0}, 3, "one left"),
        ({"a:1": 1.0, "a:int8": 1.0}, 3, "one left"),
        ({"a:1": 1.0, "b:1": 1.1}, 3, None),
        ({"a:int8": 1.0, "b:int8": 1.1}, 3, None),
        ({"a:1": 1.0, "b:1": 1.1, "a:int8": 1.0}, 3, None),
        ({"a:1": 1.0, "a:int8": 1.0, "b:int8": 1.1}, 3, None),
        ({"a:1": 1.0, "b:1": 1.1, "a:int8": 1.0}, 1, "rounds"),
    ],
)
def test_a_race_is_over_where_both_kinds_are(seconds: dict[str, float], rounds: int, why: str | None) -> None:
    assert over(CANDIDATES, {label: [times(value)] for label, value in seconds.items()}, rounds) == why


def test_each_kind_has_a_rematch_of_its_own() -> None:
    candidates = [*CANDIDATES, candidate("c:1"), candidate("c:int8"), candidate("d:1")]
    seconds = {
        "a:1": 1.2, "b:1": 1.1, "c:1": 1.3, "d:1": 9.0, "a:int8": 1.0, "b:int8": 1.15, "c:int8": 1.25,
    }  # fmt: skip
    rounds = {label: [times(value)] for label, value in seconds.items()}
    rematches = rematch(candidates, rounds)
    assert rematches == [["b:1", "a:1", "a:1", "b:1"], ["a:int8", "b:int8", "b:int8", "a:int8"]]
    assert outside(rematches, candidates, rounds) == ["c:1", "d:1", "c:int8"]
    assert outside(rematches[:1], candidates, rounds) == ["c:1", "d:1"]
    assert rematch(candidates, {label: rounds[label] for label in ("a:1", "d:1", "a:int8", "b:int8")}) == rematches[1:]


TODAY = {"scripted": "1"}
"""The environment of every candidate of `entry`."""


def row(number: int, label: str = "a:1", **changes: Any) -> Measurement:
    """A launch that holds today, the later the larger its number."""
    today = {
        "run_id": f"{number:032x}", "environment": TODAY, "policy": POLICY, "started_at": 1_790_000_000.0 + number,
    }  # fmt: skip
    return launched(label, 1.0, **{**today, **changes})


def numbers(known: Known) -> list[int]:
    return [int(outcome.run_id, 16) for outcome in known.launches]


def test_a_calibration_goes_on_with_its_launches_that_still_hold(cache: Cache) -> None:
    fewer = row(1).cells[:1]
    broken = failure("b:1", run_id=f"{8:032x}", environment=TODAY, policy=POLICY, started_at=1_790_000_008.0)
    checked = Check(**{f.name: getattr(row(9), f.name) for f in fields(Check)})
    cache.add(
        row(7),
        row(1),
        row(2, policy="0"),
        row(3, environment={"scripted": "2"}),
        row(4, cells=fewer),
        row(5, identity=replace(IDENTITY, host="elsewhere")),
        row(6, label="c:1"),  # not one of the candidates
        broken,
        checked,
    )
    candidates = [candidate("a:1"), candidate("b:1")]
    assert numbers(resumable(candidates, IDENTITY, CELLS, cache)) == [1, 7, 8, 9]
    assert numbers(resumable(candidates, IDENTITY, CELLS[:1], cache)) == [1, 4, 7, 8, 9]


def test_a_calibration_goes_on_where_the_newest_measured_one_stopped(cache: Cache) -> None:
    cache.add(row(1, calibration_id="older"), row(3, calibration_id="newer"), row(2, calibration_id="older"))
    cache.add(failure("a:1", run_id=f"{4:032x}", environment=TODAY, policy=POLICY, calibration_id="failed at once"))
    assert numbers(resumable([candidate("a:1")], IDENTITY, CELLS, cache)) == [3]


def test_nothing_measured_is_nothing_to_go_on_with(cache: Cache) -> None:
    cache.add(failure("a:1", environment=TODAY, policy=POLICY))
    assert resumable([candidate("a:1")], IDENTITY, CELLS, cache) == Known()


def test_times_are_any_models_of_the_shape_and_verdicts_of_this_config(cache: Cache) -> None:
    twin = replace(IDENTITY, config="e" * 16)
    lossy = Agreement(verdict=OutputVerdict.LOSSY, kl=0.01)
    blind = Agreement(verdict=OutputVerdict.UNCHECKED)
    cache.add(
        row(1),
        row(2, label="b:1"),
        failure("b:1", run_id=f"{3:032x}", environment=TODAY, policy=POLICY, started_at=1_790_000_003.0),
        row(4, identity=twin, calibration_id="own", agreement=lossy, cells=row(4).cells[:1]),
        row(5, identity=twin, calibration_id="own", agreement=blind, cells=row(5).cells[:1]),
    )
    candidates = [candidate("a:1"), candidate("b:1")]
    known = resumable(candidates, twin, CELLS, cache)
    assert (numbers(known), known.agreements, set(known.unchecked)) == ([1, 2], {"a:1": lossy}, {"b:1"})
    cache.add(row(6, label="b:1", identity=twin, calibration_id="own", agreement=blind, cells=row(6).cells[:1]))
    assert resumable(candidates, twin, CELLS, cache).agreements == {"a:1": lossy, "b:1": blind}
    own = resumable(candidates, IDENTITY, CELLS, cache)
    assert (numbers(own), set(own.unchecked)) == ([1, 2, 3], {"b:1"})


def test_a_config_goes_on_with_its_own_calibration(cache: Cache) -> None:
    cache.add(
        row(1, calibration_id="own"), row(2, calibration_id="twin's", identity=replace(IDENTITY, config="e" * 16))
    )
    assert numbers(resumable([candidate("a:1")], IDENTITY, CELLS, cache)) == [1]


def test_the_newest_verdict_that_compared_the_output_counts(cache: Cache) -> None:
    lossy, right = Agreement(verdict=OutputVerdict.LOSSY), Agreement(verdict=OutputVerdict.RIGHT)
    blind = Agreement(verdict=OutputVerdict.UNCHECKED)
    cache.add(row(1, agreement=blind), row(2, agreement=lossy), row(3, agreement=right), row(4, agreement=blind))
    assert resumable([candidate("a:1")], IDENTITY, CELLS, cache).agreements == {"a:1": right}


def test_a_check_without_a_reference_counts_until_there_is_a_verdict(cache: Cache) -> None:
    blind = Agreement(verdict=OutputVerdict.UNCHECKED)
    cache.add(row(1, agreement=blind))
    known = resumable([candidate("a:1")], IDENTITY, CELLS, cache)
    assert (known.agreements, set(known.unchecked)) == ({"a:1": blind}, set())
