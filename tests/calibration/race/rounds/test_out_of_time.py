"""A race whose budget ends: who is given up, what is kept, and what the next calibration has left to do."""

from pathlib import Path

import pytest

from calibration.conversion.store import ArtifactStore
from calibration.events import LaunchBegan, LaunchGivenUp
from calibration.measurement import Measurement
from calibration.supervision.launch_spec import Limits
from tests.calibration.race.recording import Recorder
from tests.calibration.race.tallied import failures, launches
from tests.calibration.tiny_engines.racing import CELLS, entry, race


def test_a_budget_that_is_spent_leaves_the_rest_unmeasured(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("a", load="slow"), entry("b", load="hang"), rounds=3, budget_s=2.0)
    assert tally.ended == "budget"
    assert tally.unmeasured == ("scripted:b",)
    assert failures(tally) == {}


def test_a_first_launch_is_given_up_after_three_times_its_share_of_the_budget(tmp_path: Path) -> None:
    recorder = Recorder()
    others = [entry(name) for name in "bcdefgh"]
    tally = race(
        tmp_path,
        entry("a", load="hang"),
        *others,
        rounds=1,
        reporter=recorder,
        checked=False,
        budget_s=8.0,
        limits=Limits(load_s=60.0),
    )
    assert (tally.ended, tally.unmeasured) == ("budget", ("scripted:a",))
    assert [event.candidate for event in recorder.of(LaunchGivenUp)] == ["scripted:a"]


def test_one_that_is_given_up_for_its_share_ends_no_race_that_the_budget_still_holds(tmp_path: Path) -> None:
    recorder = Recorder()
    tally = race(
        tmp_path,
        entry("hangs", load="hang"),
        entry("a"),
        entry("b"),
        rounds=2,
        reporter=recorder,
        checked=False,
        budget_s=20.0,
        shares=0.5,
        limits=Limits(load_s=60.0),
    )
    launched = [event.candidate for event in recorder.of(LaunchBegan)]
    assert launched[0] == launched[-1] == "scripted:hangs", "a round later it comes last"
    assert max(launches(tally).values()) == 2
    assert (tally.ended, tally.unmeasured) == ("budget", ("scripted:hangs",))


@pytest.mark.parametrize(("step_s", "cells"), [(0.001, 2), (0.02, 1)])
def test_who_is_the_fastest_so_far_is_not_given_up_for_its_share(step_s: float, cells: int, tmp_path: Path) -> None:
    """Three calls with two prompts take longer than the share of ten."""
    others = [entry(f"later{number}") for number in range(9)]
    tally = race(
        tmp_path,
        entry("first", step_s=0.005),
        entry("second", step_s=step_s, batch_s=1.2),
        *others,
        rounds=1,
        checked=False,
        budget_s=10.0,
    )
    [found] = [o for o in tally.outcomes if o.candidate.variant == "second"]
    assert isinstance(found, Measurement)
    assert len(found.cells) == cells


def test_the_cells_that_were_timed_when_the_budget_ended_are_kept_and_the_rest_is_measured_next_time(
    tmp_path: Path,
) -> None:
    """Two prompts take longer than the budget, one does not."""
    slow = entry("a", batch_s=30.0)
    tally = race(tmp_path, slow, rounds=1, checked=False, budget_s=3.0, limits=Limits(sample_s=60.0))
    [kept] = [o for o in tally.outcomes if isinstance(o, Measurement)]
    assert (tally.ended, [c.workload for c in kept.cells]) == ("budget", [CELLS[0]])
    again = race(tmp_path, entry("a"), rounds=1, checked=False)
    assert [[c.workload for c in o.cells] for o in again.outcomes if isinstance(o, Measurement)] == [list(CELLS)]


def test_a_reference_that_takes_longer_than_the_budget_ends_with_it(tmp_path: Path) -> None:
    judge = entry("reference", load="hang")
    tally = race(tmp_path, entry("a"), rounds=1, judge=judge, budget_s=1.5, limits=Limits(load_s=60.0))
    assert (tally.ended, tally.unmeasured) == ("budget", ("scripted:a",))


def test_a_reference_whose_rounding_the_budget_cut_short_is_not_kept(tmp_path: Path) -> None:
    """Its scores are there, but what 16 bits may be off by is not: the next calibration makes it whole."""
    judge = entry("reference", precision="fp32", load_model="hang")
    limits = Limits(load_s=60.0)
    tally = race(tmp_path, entry("a"), rounds=1, judge=judge, dtype="bfloat16", budget_s=3.0, limits=limits)
    assert (tally.ended, tally.unmeasured) == ("budget", ("scripted:a",))
    assert ArtifactStore(tmp_path / "artifacts").list() == []
