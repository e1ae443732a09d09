"""A race on a ladder from first launch to last, with an engine that counts."""

from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.events import CandidateOut, LaunchBegan, LaunchEnded, RungBegan
from calibration.measurement import Failure, Measurement
from tests.calibration.race.recording import Recorder, Stopper
from tests.calibration.tiny_engines.racing import FEW, WHOLE, ascend, entry

ENTRIES = entry("quick"), entry("slow", step_s=0.02)
LONG_OPENING = {WHOLE: {"refused": {"scripted:quick": "no memory", "scripted:slow": "no memory"}}}


def test_it_ends_when_the_pick_is_sure_and_every_launch_is_kept(tmp_path: Path) -> None:
    recorder = Recorder()
    tally = ascend(tmp_path, *ENTRIES, reporter=recorder)
    with Cache.open(tmp_path / "cache.db") as cache:
        assert {o.run_id for o in cache.all()} == tally.fresh
    assert tally.ended == "sure"
    assert tally.sureness is not None
    assert (set(tally.sureness.picks.values()), tally.sureness.rung) == ({"scripted:quick"}, WHOLE)
    assert [event.candidate for event in recorder.of(CandidateOut)] == ["scripted:slow"]
    assert tally.reasons["scripted:slow"].endswith("on the whole model")


def test_a_second_run_launches_nothing_and_again_measures_anew(tmp_path: Path) -> None:
    first = ascend(tmp_path, *ENTRIES)
    second = ascend(tmp_path, *ENTRIES)
    assert (second.fresh, second.ended, len(second.outcomes)) == (frozenset(), first.ended, len(first.outcomes))
    assert ascend(tmp_path, *ENTRIES, again=True).fresh


def test_what_an_interrupted_run_kept_is_not_launched_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ascend(tmp_path, *ENTRIES, reporter=Stopper(launches=1))
    recorder = Recorder()
    ascend(tmp_path, *ENTRIES, reporter=recorder)
    assert recorder.of(LaunchBegan)[0].candidate == "scripted:slow"


def test_where_the_whole_is_refused_the_answer_stands_on_layers(tmp_path: Path) -> None:
    recorder = Recorder()
    tally = ascend(tmp_path, *ENTRIES, rungs=(FEW, WHOLE), depths=LONG_OPENING, reporter=recorder)
    assert [event.rung for event in recorder.of(RungBegan)] == [FEW]
    assert {o.identity.cut for o in tally.outcomes} == {"2/8"}
    assert (tally.ended, tally.sureness and tally.sureness.rung) == ("on layers", FEW)
    assert tally.whole_refused == {"scripted:quick": "no memory", "scripted:slow": "no memory"}


def test_a_slow_launch_ends_with_the_cell_that_tells_it(tmp_path: Path) -> None:
    recorder = Recorder()
    ascend(tmp_path, entry("quick"), entry("slow", step_s=0.05), reporter=recorder)
    slow = [e.outcome for e in recorder.of(LaunchEnded) if e.outcome.candidate.variant == "slow"]
    assert [len(o.cells) for o in slow if isinstance(o, Measurement)] == [1]


def test_who_fails_is_out_and_the_others_race_on(tmp_path: Path) -> None:
    tally = ascend(tmp_path, *ENTRIES, entry("bad", load="refuse"))
    assert [o.candidate.label for o in tally.outcomes if isinstance(o, Failure)] == ["scripted:bad"]
    assert tally.ended == "sure"


def test_times_of_a_twin_are_taken_and_its_output_is_checked(tmp_path: Path) -> None:
    first = ascend(tmp_path, *ENTRIES, config="one")
    twin = ascend(tmp_path, *ENTRIES, config="two")
    fresh = [o for o in twin.outcomes if o.run_id in twin.fresh]
    assert fresh and all(type(o).__name__ == "Check" for o in fresh)
    assert twin.agreements.keys() <= first.agreements.keys()
