"""A calibration from first launch to last: what is measured, stored, resumed, checked and given up."""

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore, converted_key
from calibration.events import (
    CandidateOut,
    CellBegan,
    CheckBegan,
    CheckEnded,
    ConversionBegan,
    LaunchBegan,
    LaunchEnded,
    LaunchGivenUp,
    LoadBegan,
    LoadEnded,
    RaceEnded,
    ReferenceBegan,
    RoundBegan,
    WaitingForAnother,
    WritingContinues,
)
from calibration.measurement import Failure, FailureKind, Measurement, Outcome, OutputVerdict
from calibration.race.tally import Tally
from calibration.supervision.launch_spec import Limits
from tests.calibration.engines.racing import CELLS, entry, race
from tests.calibration.race.recording import Recorder, Stopper


def failures(tally: Tally) -> dict[str, tuple[FailureKind, str]]:
    return {o.candidate.label: (o.kind, o.stage) for o in tally.outcomes if isinstance(o, Failure)}


def launches(tally: Tally) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in tally.outcomes:
        if isinstance(outcome, Measurement):
            found[outcome.candidate.label] = found.get(outcome.candidate.label, 0) + 1
    return found


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


def test_a_conversion_is_made_once_and_its_time_and_size_are_kept(tmp_path: Path) -> None:
    recorder = Recorder()
    entries = entry("converted", prepares=True), entry("as-fast", step_s=0.0)
    tally = race(tmp_path, *entries, rounds=2, reporter=recorder)
    kept = [o for o in tally.outcomes if isinstance(o, Measurement) and o.candidate.variant == "converted"]
    assert len(kept) == 2
    assert len(recorder.of(ConversionBegan)) == 1
    assert all(o.artifact_bytes == 4 and o.prepare_s is not None for o in kept)


def test_a_conversion_says_what_it_will_take_and_keeps_its_log(tmp_path: Path) -> None:
    recorder = Recorder()
    race(
        *(tmp_path, entry("converted", prepares=True)),
        rounds=1,
        reporter=recorder,
        parameters=1 << 20,
        memory_bytes=2 << 30,
    )
    (began,) = recorder.of(ConversionBegan)
    # float32: 4 bytes a parameter, read at 30 s a GiB by a converter that starts in 5 s.
    assert (began.expected.bytes, began.expected.scratch_bytes) == (4 << 20, 0)
    assert began.expected.seconds == pytest.approx(5 + 30 * (4 << 20) / 2**30)
    (converted,) = [a for a in ArtifactStore(tmp_path / "artifacts").list() if a.kind == "converted"]
    assert converted.log.read_text() == "converting\n"


def test_a_conversion_tells_how_far_it_is(tmp_path: Path) -> None:
    recorder = Recorder()
    race(tmp_path, entry("converted", prepares=True, prepare="slower"), rounds=1, reporter=recorder, checked=False)
    written = recorder.of(WritingContinues)
    assert written
    assert all(event.what == "converted model" and event.elapsed_s > 0 for event in written)


def test_a_conversion_that_cannot_fit_is_a_stored_refusal_and_does_not_begin(tmp_path: Path) -> None:
    recorder = Recorder()
    entries = entry("converted", prepares=True), entry("good")
    tally = race(tmp_path, *entries, rounds=1, reporter=recorder, parameters=1 << 60, memory_bytes=1 << 70)
    assert failures(tally) == {"scripted:converted": (FailureKind.REFUSED, "prepare")}
    refused = next(o for o in tally.outcomes if isinstance(o, Failure))
    assert re.fullmatch(
        r"needs 4294967296\.0 GiB on /\S* for the conversion; \d+\.\d GiB are free \(autobackend artifacts prune frees"
        r" some, AUTOBACKEND_ARTIFACTS names a folder on another disk; --again tries anew\)",
        refused.message,
    )
    assert recorder.of(ConversionBegan) == []
    assert launches(tally) == {"scripted:good": 1}


def test_the_time_that_is_left_counts_conversions_that_are_still_to_be_made(tmp_path: Path) -> None:
    """Of no known size one is thought to take five seconds, for its start; the scripted engine's takes none."""
    entries, told = (entry("good"), entry("converted", prepares=True)), list[float]()
    for again in (False, True):
        recorder = Recorder()
        race(tmp_path, *entries, rounds=1, reporter=recorder, checked=False, again=again)
        told.append(recorder.of(LaunchBegan)[1].left_s or 0.0)
    assert told[0] > 5.0 > told[1]


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


def test_who_waits_for_the_same_conversion_says_so_and_no_longer_than_the_budget(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    key = converted_key(
        weights="none", candidate=entry("converted").candidate, converter="", model="counting", prepared_as=""
    )
    begun, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        begun.set()
        go_on.wait()
        (folder / "converted").write_text("done")

    other = threading.Thread(target=lambda: store.make(key, slow))
    other.start()
    begun.wait()
    recorder = Recorder()
    try:
        tally = race(
            tmp_path, entry("converted", prepares=True), rounds=1, reporter=recorder, checked=False, budget_s=1.0
        )
    finally:
        go_on.set()
        other.join()
    assert recorder.kinds() == [RoundBegan, LaunchBegan, WaitingForAnother, LaunchGivenUp, RaceEnded]
    assert (tally.ended, tally.unmeasured) == ("budget", ("scripted:converted",))


def test_a_worker_killed_from_outside_is_a_stored_crash_that_names_the_mend(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("killed", load="killed"), entry("good"), rounds=1, checked=False)
    killed = next(o for o in tally.outcomes if isinstance(o, Failure))
    assert (killed.kind, killed.message) == (
        FailureKind.CRASHED,
        "killed by SIGKILL (signal 9) from outside, as by an out-of-memory killer: --again measures it anew",
    )
    assert launches(tally) == {"scripted:good": 1}


def test_a_conversion_that_dies_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("dies", prepares=True, prepare="abort"), rounds=1)
    assert failures(tally) == {"scripted:dies": (FailureKind.CRASHED, "prepare")}
    assert list((tmp_path / "artifacts").rglob("converted")) == []
    died = next(o for o in tally.outcomes if isinstance(o, Failure))
    assert died.log_tail.startswith("converting")


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
