"""A calibration from first launch to last: what is measured, stored, resumed, checked and given up."""

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.events import (
    CandidateOut,
    CellBegan,
    CheckBegan,
    CheckEnded,
    LaunchBegan,
    LaunchEnded,
    LoadBegan,
    LoadEnded,
    RaceEnded,
    ReferenceBegan,
    RoundBegan,
)
from calibration.measurement import Failure, FailureKind, Measurement, Outcome, OutputVerdict
from tests.calibration.race.recording import Recorder, Stopper
from tests.calibration.race.tallied import failures, launches
from tests.calibration.tiny_engines.racing import CELLS, entry, race


def test_a_race_measures_checks_and_keeps_every_sample(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("quick"), entry("slow", step_s=0.02), rounds=2)
    with Cache.open(tmp_path / "cache.db") as cache:
        kept = list(cache.all())
    assert sorted(o.run_id for o in kept) == sorted(tally.fresh)
    first = next(o for o in kept if o.candidate.label == "scripted:slow")
    assert isinstance(first, Measurement)
    assert [c.workload for c in first.cells] == list(CELLS)
    assert all(len(c.samples) >= 2 for c in first.cells)
    assert all(s.tpot_s is not None and s.tpot_s >= 0.02 for c in first.cells for s in c.samples)
    assert first.agreement.verdict is OutputVerdict.RIGHT
    assert first.agreement.detail == "5 of 5 greedy paths equal"
    assert tally.out == {"scripted:slow": 1}
    assert tally.ended == "one left"


def test_a_lossy_candidate_puts_no_other_out(tmp_path: Path) -> None:
    entries = entry("lossy", lossy=True), entry("exact", step_s=0.01), entry("slow", step_s=0.05)
    tally = race(tmp_path, *entries, entry("slow-lossy", lossy=True, step_s=0.05), rounds=2)
    assert tally.out == {"scripted:slow": 1, "scripted:slow-lossy": 1}
    assert launches(tally)["scripted:exact"] == 1, "the only one of its kind has nobody left to race"
    assert tally.ended == "one left"


def test_a_second_calibration_measures_nothing_and_again_measures_anew(tmp_path: Path) -> None:
    entries = entry("quick"), entry("slow", step_s=0.02)
    first = race(tmp_path, *entries, rounds=2)
    second = race(tmp_path, *entries, rounds=2)
    third = race(tmp_path, *entries, rounds=2, again=True)
    assert (len(second.fresh), len(second.outcomes)) == (0, len(first.outcomes))
    assert second.calibration_id == first.calibration_id != third.calibration_id
    assert len(third.fresh) == len(first.fresh)


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), rounds=1)
    tally = race(tmp_path, entry("quick"), entry("new", step_s=0.02), rounds=1)
    assert launches(tally) == {"scripted:quick": 1, "scripted:new": 1}
    assert len(tally.fresh) == 1


def test_every_bad_day_is_a_stored_failure_and_the_others_are_measured(tmp_path: Path) -> None:
    tally = race(
        tmp_path,
        entry("segfaults", load="segfault"),
        entry("aborts", generate="abort"),
        entry("hangs-in-load", load="hang"),
        entry("hangs-in-cell", generate="hang"),
        entry("prints-garbage", load="garbage"),
        entry("hoards", load="memory"),
        entry("refuses", load="refuse"),
        entry("explodes", generate="raise"),
        entry("good"),
        rounds=1,
    )
    assert failures(tally) == {
        "scripted:segfaults": (FailureKind.CRASHED, "load"),
        "scripted:aborts": (FailureKind.CRASHED, "check"),
        "scripted:hangs-in-load": (FailureKind.TIMED_OUT, "load"),
        "scripted:hangs-in-cell": (FailureKind.TIMED_OUT, "check"),
        "scripted:prints-garbage": (FailureKind.CRASHED, "load"),
        "scripted:hoards": (FailureKind.OUT_OF_MEMORY, "load"),
        "scripted:refuses": (FailureKind.REFUSED, "load"),
        "scripted:explodes": (FailureKind.CRASHED, "pp4:tg4:b1"),
    }
    assert launches(tally) == {"scripted:good": 1}
    refused = next(o for o in tally.outcomes if o.candidate.variant == "refuses")
    assert isinstance(refused, Failure)
    assert refused.message == "ValueError: cannot load this architecture"
    assert refused.log_tail.startswith("loading\nTraceback")


@pytest.mark.parametrize("options", [{"off_by_one": True}, {"swaps_rows": True}, {"stops_early": True}])
def test_wrong_output_is_a_failure(tmp_path: Path, options: dict[str, Any]) -> None:
    tally = race(tmp_path, entry("wrong", no_scores=True, **options), entry("good"), rounds=1)
    assert failures(tally) == {"scripted:wrong": (FailureKind.WRONG_OUTPUT, "check")}


def test_the_output_is_checked_in_the_first_launch_only(tmp_path: Path) -> None:
    recorder = Recorder()
    tally = race(tmp_path, entry("good"), entry("as-good"), rounds=2, reporter=recorder)
    assert launches(tally) == {"scripted:good": 2, "scripted:as-good": 2}
    checked = [(type(e), e.candidate) for e in recorder.events if isinstance(e, CheckBegan | CheckEnded)]
    assert checked == [(t, f"scripted:{label}") for label in ("good", "as-good") for t in (CheckBegan, CheckEnded)]


def test_without_a_reference_the_output_is_unchecked_and_the_reporter_is_told(tmp_path: Path) -> None:
    recorder = Recorder()
    tally = race(tmp_path, entry("good"), rounds=1, checked=False, reporter=recorder)
    only = tally.outcomes[0]
    assert isinstance(only, Measurement)
    assert only.agreement.verdict is OutputVerdict.UNCHECKED
    assert recorder.kinds() == [
        RoundBegan, LaunchBegan, ReferenceBegan, LoadBegan, LoadEnded, CellBegan, CellBegan, LaunchEnded, RaceEnded,
    ]  # fmt: skip


def test_where_loads_are_long_the_leaders_meet_again_in_an_order_that_cancels_a_drift(tmp_path: Path) -> None:
    """A B B A: whose time overlaps with theirs, and who is slow, is launched once."""
    recorder = Recorder()
    entries = entry("a", step_s=0.02), entry("b", step_s=0.022), entry("c", step_s=0.024), entry("slow", step_s=0.1)
    tally = race(tmp_path, *entries, reporter=recorder, checked=False, rounds=3, long_load_s=0.0)
    launched = [event.candidate for event in recorder.of(LaunchBegan)]
    first, second = launched[4:6]
    assert launched[4:] == [first, second, second, first]
    [third] = {"scripted:a", "scripted:b", "scripted:c"} - {first, second}
    assert [(event.candidate, event.why) for event in recorder.of(CandidateOut) if event.number == 1] == [
        ("scripted:slow", "slower on every cell"),
        (third, "loading takes minutes, so only the leaders are launched again"),
    ]
    assert [(o.candidate.label, o.round) for o in tally.outcomes[4:]] == [
        (first, 2), (second, 2), (second, 3), (first, 3)
    ], "one launch a round: the pair is compared within rounds"  # fmt: skip
    again = race(tmp_path, *entries, checked=False, long_load_s=0.0)
    assert (again.fresh, again.out, again.ended) == (frozenset(), tally.out, tally.ended)


def test_an_interrupted_rematch_goes_on_in_its_order(tmp_path: Path) -> None:
    entries = entry("a", step_s=0.02), entry("b", step_s=0.022)
    stopper, recorder = Stopper(launches=3), Recorder()
    with pytest.raises(KeyboardInterrupt):
        race(tmp_path, *entries, reporter=stopper, checked=False, long_load_s=0.0)
    tally = race(tmp_path, *entries, reporter=recorder, checked=False, long_load_s=0.0)
    *_, first = stopper.of(LaunchBegan)
    [second] = {"scripted:a", "scripted:b"} - {first.candidate}
    assert [event.candidate for event in recorder.of(LaunchBegan)] == [second, second, first.candidate]
    assert launches(tally) == {"scripted:a": 3, "scripted:b": 3}


def test_where_loads_are_long_and_one_is_clear_nobody_meets_again(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("quick"), entry("slow", step_s=0.05), checked=False, long_load_s=0.0)
    assert (launches(tally), tally.ended) == ({"scripted:quick": 1, "scripted:slow": 1}, "load")


def test_lossy_leaders_put_no_other_out_of_a_rematch(tmp_path: Path) -> None:
    """Each kind has a rematch of its own."""
    recorder = Recorder()
    lossy = entry("x", step_s=0.015, lossy=True), entry("y", step_s=0.016, lossy=True)
    exact = entry("a", step_s=0.02), entry("b", step_s=0.022)
    race(tmp_path, *exact, *lossy, reporter=recorder, checked=False, long_load_s=0.0)
    a, b, x, y, *rest = [event.candidate for event in recorder.of(LaunchBegan)][4:]
    assert rest == [b, a, y, x]
    assert ({a, b}, {x, y}) == ({"scripted:a", "scripted:b"}, {"scripted:x", "scripted:y"})
    assert [event for event in recorder.of(CandidateOut) if event.number < 3] == []


def test_a_worker_killed_from_outside_is_a_stored_crash_that_names_the_mend(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("killed", load="killed"), entry("good"), rounds=1, checked=False)
    killed = next(o for o in tally.outcomes if isinstance(o, Failure))
    assert (killed.kind, killed.message) == (
        FailureKind.CRASHED,
        "killed by SIGKILL (signal 9) from outside, as by an out-of-memory killer: --again measures it anew",
    )
    assert launches(tally) == {"scripted:good": 1}


def test_a_python_that_cannot_be_started_is_a_stored_refusal(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("nowhere", python="/nowhere/python"), entry("good"), rounds=1, checked=False)
    gone = next(o for o in tally.outcomes if isinstance(o, Failure))
    assert (gone.kind, gone.message) == (
        FailureKind.REFUSED, "/nowhere/python cannot be started: No such file or directory"
    )  # fmt: skip


def test_outcomes_survive_the_export_format(tmp_path: Path) -> None:
    from calibration.measurement import from_json, to_json

    tally = race(tmp_path, entry("good"), entry("bad", load="refuse"), rounds=1)
    back: list[Outcome] = [from_json(json.loads(json.dumps(to_json(o)))) for o in tally.outcomes]
    assert back == list(tally.outcomes)
