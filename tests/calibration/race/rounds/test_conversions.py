"""Conversions in a race: made once, with their size and time; refused, awaited, or died of."""

import re
import threading
from pathlib import Path

import pytest

from calibration.conversion.artifact import converted_key
from calibration.conversion.store import ArtifactStore
from calibration.events import (
    ConversionBegan,
    LaunchBegan,
    LaunchGivenUp,
    RaceEnded,
    RoundBegan,
    WaitingForAnother,
    WritingContinues,
)
from calibration.measurement import Failure, FailureKind, Measurement
from tests.calibration.race.recording import Recorder
from tests.calibration.race.tallied import failures, launches
from tests.calibration.tiny_engines.racing import entry, race


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


def test_a_conversion_that_dies_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    tally = race(tmp_path, entry("dies", prepares=True, prepare="abort"), rounds=1)
    assert failures(tally) == {"scripted:dies": (FailureKind.CRASHED, "prepare")}
    assert list((tmp_path / "artifacts").rglob("converted")) == []
    died = next(o for o in tally.outcomes if isinstance(o, Failure))
    assert died.log_tail.startswith("converting")
