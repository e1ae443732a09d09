"""A race of servers from first launch to last: what is stored, resumed, repeated and dropped."""

from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.events import CandidateOut, Event, LaunchEnded, PointBegan, PointEnded, ServerBegan
from calibration.load.load import Load
from calibration.measurement import Check, OutputVerdict, Served
from calibration.race.bounds import Bounds
from tests.calibration.points import C4, trace_of
from tests.calibration.race.recording import Recorder
from tests.calibration.served.racing_servers import TRACE, Script, kept, served
from tests.calibration.tiny_engines.racing import entry

ONE, TWICE = Load.parse("pp16:tg8:c1"), Load.parse("pp16:tg8:c8")


def test_each_is_checked_served_and_kept(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 50.0})
    tally = served(tmp_path, script, entry("slow"), entry("quick"))
    outcomes = kept(tmp_path)
    checks = [o for o in outcomes if isinstance(o, Check)]
    assert [o.agreement.verdict for o in checks] == [OutputVerdict.RIGHT] * 2
    launches = [o for o in outcomes if isinstance(o, Served)]
    assert {o.run_id for o in [*checks, *launches]} == tally.fresh
    first = launches[0]
    assert (first.candidate.label, first.slots, first.threads, first.load_s) == ("scripted:slow", 4, 2, 0.5)
    assert [p.load for p in first.points] == [C4]
    assert first.points[0].output_tps == pytest.approx(50.0)
    assert first.agreement.verdict is OutputVerdict.RIGHT
    assert list(tally.out) == ["scripted:slow"]
    assert tally.ended == "rounds"


def test_who_is_far_behind_is_started_once_and_the_leader_twice_with_one_thread_fewer(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 50.0})
    served(tmp_path, script, entry("slow"), entry("quick"))
    assert script.started == [
        ("slow", 4, 2),
        ("quick", 4, 2),
        ("quick", 4, 2),
        ("quick", 4, 1),
        ("quick", 8, 2),
    ]
    assert script.loaded[-2:] == [("quick", ONE.label), ("quick", TWICE.label)]


def test_the_better_number_of_threads_leads(tmp_path: Path) -> None:
    script = Script(tps={"quick": 100.0, "quick/1": 200.0})
    served(tmp_path, script, entry("quick"), bounds=Bounds(rounds=2))
    assert script.started == [
        *(("quick", 4, 2), ("quick", 4, 2), ("quick", 4, 1)),
        *(("quick", 4, 1), ("quick", 8, 1)),
    ], "it is launched twice, and the levels are measured as it would be served"


def test_without_fewer_threads_there_is_one_arm(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0})
    tally = served(tmp_path, script, entry("quick"), fewer_threads=False)
    assert [threads for _, _, threads in script.started] == [2, 2, 2]
    assert tally.ended == "rounds"


def test_without_levels_only_what_was_asked_for_is_served(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 50.0})
    tally = served(tmp_path, script, entry("slow"), entry("quick"), fewer_threads=False, levels=False)
    assert script.loaded == [("slow", C4.label), ("quick", C4.label), ("quick", C4.label)]
    assert tally.ended == "rounds"


def test_a_round_that_was_served_alone_is_the_first_of_two(tmp_path: Path) -> None:
    entries, tps = (entry("quick"), entry("slow")), {"quick": 200.0, "slow": 190.0}
    first = served(tmp_path, Script(tps=tps), *entries, bounds=Bounds(rounds=1), fewer_threads=False, levels=False)
    script = Script(tps=tps)
    second = served(tmp_path, script, *entries, bounds=Bounds(rounds=2), fewer_threads=False, levels=False)
    assert (second.calibration_id, script.started) == (first.calibration_id, [("quick", 4, 2), ("slow", 4, 2)])
    assert sorted(o.round for o in second.outcomes if isinstance(o, Served)) == [1, 1, 2, 2]


def test_a_second_run_serves_nothing_and_again_serves_anew(tmp_path: Path) -> None:
    entries = entry("quick"), entry("slow")
    tps = {"quick": 200.0, "slow": 50.0}
    first = served(tmp_path, Script(tps=tps), *entries)
    script = Script(tps=tps)
    second = served(tmp_path, script, *entries)
    assert (script.started, second.fresh) == ([], frozenset())
    assert (second.calibration_id, second.ended) == (first.calibration_id, first.ended)
    third = served(tmp_path, Script(tps=tps), *entries, again=True)
    assert third.calibration_id != first.calibration_id
    assert len(third.fresh) == len(first.fresh)


def test_levels_are_measured_though_the_verdict_was_forgotten(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0})
    served(tmp_path, script, entry("quick"), fewer_threads=False, levels=False)
    with Cache.open(tmp_path / "cache.db") as cache:
        assert cache.delete(o.run_id for o in cache.all() if isinstance(o, Check)) == 1
    tally = served(tmp_path, script, entry("quick"), fewer_threads=False)
    assert script.loaded[-2:] == [("quick", ONE.label), ("quick", TWICE.label)]
    assert [type(o) for o in tally.outcomes if o.run_id in tally.fresh] == [Check, Served]


def test_an_interrupted_race_keeps_what_it_has_and_goes_on(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 150.0})

    class Stopping(Recorder):
        def report(self, event: Event, /) -> None:
            super().report(event)
            if isinstance(event, LaunchEnded) and isinstance(event.outcome, Served):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        served(tmp_path, script, entry("quick"), entry("slow"), recorder=Stopping())
    assert script.open == 0, "the server was stopped"
    assert [o.candidate.label for o in kept(tmp_path) if isinstance(o, Served)] == ["scripted:quick"]
    going_on = Script(tps=script.tps)
    served(tmp_path, going_on, entry("quick"), entry("slow"))
    assert going_on.started[0] == ("slow", 4, 2)
    assert [name for name, _, _ in going_on.started].count("quick") == 3


def test_who_was_disturbed_has_another_launch(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 80.0}, void={"slow": "other programs used 30 % of the cores"})
    tally = served(tmp_path, script, entry("slow"), entry("quick"))
    assert [name for name, _, _ in script.started].count("slow") == 2
    assert tally.out == {}
    calm = Script(tps={"quick": 200.0, "slow": 80.0})
    again = served(tmp_path, calm, entry("slow"), entry("quick"), again=True)
    assert [name for name, _, _ in calm.started].count("slow") == 1
    assert list(again.out) == ["scripted:slow"]


def test_what_happens_is_told_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    script = Script(tps={"quick": 200.0, "slow": 50.0})
    served(tmp_path, script, entry("slow"), entry("quick"), recorder=recorder)
    kinds = (ServerBegan, PointBegan, PointEnded, CandidateOut)
    told = [type(event).__name__ for event in recorder.events if isinstance(event, kinds)]
    assert told[:7] == [*("ServerBegan", "PointBegan", "PointEnded") * 2, "CandidateOut"]
    out = next(event for event in recorder.events if isinstance(event, CandidateOut))
    assert (out.candidate, out.number) == ("scripted:slow", 1)
    assert out.why == f"4.00 times worse than scripted:quick with 2 threads for {C4.label}"


def test_all_take_all_rounds_where_that_is_asked_for(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 50.0})
    tally = served(
        tmp_path, script, entry("slow"), entry("quick"), full=True, fewer_threads=False, bounds=Bounds(rounds=3)
    )
    assert [name for name, slots, _ in script.started if slots == 4] == ["slow", "quick", *("quick", "slow") * 2]
    assert (tally.out, tally.ended) == ({}, "rounds")


@pytest.mark.parametrize(("sure", "rounds"), [(0.8, 2), (0.99, 3)])
def test_it_is_over_when_it_is_as_sure_as_asked(sure: float, rounds: int, tmp_path: Path) -> None:
    script = Script(tps={"quick": 115.0, "slow": 100.0})
    tally = served(
        *(tmp_path, script, entry("slow"), entry("quick")),
        bounds=Bounds(rounds=9, sure=sure),
        fewer_threads=False,
    )
    assert (tally.ended, tally.picks) == ("sure", ("scripted:quick",))
    assert tally.sureness >= sure
    assert [name for name, _, _ in script.started].count("slow") == rounds


def test_a_trace_is_raced_and_known_by_its_hash_when_the_race_goes_on(tmp_path: Path) -> None:
    tps = {"quick": 200.0, "slow": 20.0}
    first = served(tmp_path, Script(tps=tps), entry("slow"), entry("quick"), loads=(TRACE.load,))
    points = [p for o in first.outcomes if isinstance(o, Served) for p in o.points]
    assert {(p.load.trace, p.load.title) for p in points} == {
        (TRACE.digest, "trace:requests 20 requests in 9.5 s"),
    }
    moved, again = trace_of(20, name="copy"), Script(tps=tps)
    second = served(tmp_path, again, entry("slow"), entry("quick"), loads=(moved.load,))
    assert (again.started, second.fresh) == ([], frozenset())
