"""Two configs of one shape: the second takes the first's times, and its own outputs are checked."""

from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.events import CellBegan, LaunchBegan
from calibration.measurement import Answered, Check, Failure, FailureKind, Measurement, Outcome, OutputVerdict
from calibration.race.tally import Tally
from tests.calibration.race.recording import Recorder, Stopper
from tests.calibration.tiny_engines.racing import entry, race

QUICK, SLOW = "scripted:quick", "scripted:slow"


def fresh(tally: Tally) -> list[tuple[str, type[Outcome], int]]:
    return [(o.candidate.label, type(o), o.round) for o in tally.outcomes if o.run_id in tally.fresh]


def verdicts(tally: Tally) -> dict[str, OutputVerdict]:
    return {label: agreement.verdict for label, agreement in tally.agreements.items()}


def test_a_twin_is_checked_and_not_timed(tmp_path: Path) -> None:
    candidates = entry("quick"), entry("slow", step_s=0.02)
    first = race(tmp_path, *candidates, config="first", rounds=2)
    recorder = Recorder()
    second = race(tmp_path, *candidates, config="second", rounds=2, reporter=recorder)
    assert fresh(second) == [(QUICK, Check, 1), (SLOW, Check, 1)]
    assert recorder.of(CellBegan) == []
    assert [o for o in second.outcomes if isinstance(o, Measurement)] == list(first.outcomes)
    assert verdicts(second) == {QUICK: OutputVerdict.RIGHT, SLOW: OutputVerdict.RIGHT}
    assert (second.out, second.ended) == (first.out, first.ended)
    with Cache.open(tmp_path / "cache.db") as cache:
        kept = [o for o in cache.all() if o.identity.config == "second"]
    assert [o for o in second.outcomes if o.run_id in second.fresh] == kept
    assert all(isinstance(o, Answered) and o.load_s > 0 and o.peak_memory_bytes > 0 for o in kept)


def test_once_checked_nothing_is_launched(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), config="first", rounds=1)
    race(tmp_path, entry("quick"), config="second", rounds=1)
    for config in ("first", "second"):
        again = race(tmp_path, entry("quick"), config=config, rounds=1)
        assert (fresh(again), verdicts(again)) == ([], {QUICK: OutputVerdict.RIGHT})


def test_a_twin_that_answers_wrong_is_out_and_the_others_race_on(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), entry("slow", step_s=0.02), config="first", rounds=1)
    second = race(tmp_path, entry("quick", off_by_one=True), entry("slow", step_s=0.02), config="second", rounds=1)
    wrong = next(o for o in second.outcomes if isinstance(o, Failure))
    assert (wrong.candidate.label, wrong.kind, wrong.stage) == (QUICK, FailureKind.WRONG_OUTPUT, "check")
    assert fresh(second) == [(QUICK, Failure, 1), (SLOW, Check, 1)]
    assert (verdicts(second), second.ended) == ({SLOW: OutputVerdict.RIGHT}, "one left")
    first = race(tmp_path, entry("quick"), entry("slow", step_s=0.02), config="first", rounds=1)
    assert (fresh(first), verdicts(first)) == ([], {QUICK: OutputVerdict.RIGHT, SLOW: OutputVerdict.RIGHT})


def test_a_failure_of_the_twin_is_tried_and_timed(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), entry("slow", load="refuse"), config="first", rounds=1)
    second = race(tmp_path, entry("quick"), entry("slow", step_s=0.02), config="second", rounds=1)
    assert fresh(second) == [(QUICK, Check, 1), (SLOW, Measurement, 1)]


def test_an_interrupted_check_goes_on(tmp_path: Path) -> None:
    candidates = entry("quick"), entry("slow", step_s=0.02)
    race(tmp_path, *candidates, config="first", rounds=1)
    with pytest.raises(KeyboardInterrupt):
        race(tmp_path, *candidates, config="second", rounds=1, reporter=Stopper(launches=1))
    recorder = Recorder()
    second = race(tmp_path, *candidates, config="second", rounds=1, reporter=recorder)
    assert [event.candidate for event in recorder.of(LaunchBegan)] == [SLOW]
    assert verdicts(second) == {QUICK: OutputVerdict.RIGHT, SLOW: OutputVerdict.RIGHT}


def test_what_the_twin_was_not_launched_for_is_timed_in_the_same_calibration(tmp_path: Path) -> None:
    first = race(tmp_path, entry("quick"), config="first", rounds=1)
    second = race(tmp_path, entry("quick"), entry("slow", step_s=0.02), config="second", rounds=1)
    assert fresh(second) == [(QUICK, Check, 1), (SLOW, Measurement, 1)]
    assert second.calibration_id == first.calibration_id


def test_launches_from_before_configs_were_kept_lend_their_times(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), config="", rounds=1)
    assert fresh(race(tmp_path, entry("quick"), config="known", rounds=1)) == [(QUICK, Check, 1)]


def test_without_a_reference_a_twin_is_launched_once_and_stays_unchecked(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), config="first", rounds=1)
    second = race(tmp_path, entry("quick"), config="second", rounds=1, checked=False)
    assert (fresh(second), verdicts(second)) == ([(QUICK, Check, 1)], {QUICK: OutputVerdict.UNCHECKED})
    assert fresh(race(tmp_path, entry("quick"), config="second", rounds=1, checked=False)) == []


def test_again_times_the_twin_itself(tmp_path: Path) -> None:
    first = race(tmp_path, entry("quick"), config="first", rounds=1)
    second = race(tmp_path, entry("quick"), config="second", rounds=1, again=True)
    assert fresh(second) == [(QUICK, Measurement, 1)]
    assert second.calibration_id != first.calibration_id


def test_a_config_goes_on_with_its_own_calibration_before_the_twins(tmp_path: Path) -> None:
    candidates = entry("quick"), entry("slow", step_s=0.02)
    own = race(tmp_path, *candidates, config="second", rounds=1)
    race(tmp_path, entry("quick"), config="first", rounds=1, again=True)
    tally = race(tmp_path, *candidates, config="second", rounds=1)
    assert (fresh(tally), tally.outcomes) == ([], own.outcomes)


def test_a_budget_that_is_spent_leaves_the_rest_unchecked(tmp_path: Path) -> None:
    candidates = entry("quick"), entry("slow", step_s=0.02)
    race(tmp_path, *candidates, config="first", rounds=1)
    second = race(tmp_path, *candidates, config="second", rounds=1, budget_s=0.0)
    assert (fresh(second), second.ended, second.unmeasured) == ([], "budget", ())
    assert verdicts(second) == {}


def test_a_candidate_that_failed_since_it_was_timed_is_checked_again(tmp_path: Path) -> None:
    race(tmp_path, entry("quick"), config="second", rounds=1)
    race(tmp_path, entry("quick", load="refuse"), config="second", rounds=1, again=True)
    tally = race(tmp_path, entry("quick"), config="second", rounds=1)
    assert fresh(tally) == [(QUICK, Check, 1)]


def test_a_few_layers_and_the_whole_model_know_nothing_of_each_other(tmp_path: Path) -> None:
    candidates = entry("quick"), entry("slow", step_s=0.02)
    race(tmp_path, *candidates, config="first", cut="3/30", rounds=1)
    whole = race(tmp_path, *candidates, config="first", rounds=1)
    assert fresh(whole) == [(QUICK, Measurement, 1), (SLOW, Measurement, 1)]
    assert len(whole.outcomes) == 2
    again = race(tmp_path, *candidates, config="first", cut="3/30", rounds=1)
    assert fresh(again) == []
    assert {o.identity.cut for o in again.outcomes} == {"3/30"}
