"""Servers that fail, and races that their budget ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calibration.events import ServerGivenUp
from calibration.load.sample import NoPoint
from calibration.measurement import Failure, FailureKind, Unserved
from calibration.race.bounds import Bounds
from calibration.served.place import Hold, NeverReady, Server
from calibration.supervision.launch_spec import LaunchSpec
from tests.calibration.points import C4
from tests.calibration.race.recording import Recorder
from tests.calibration.served.racing_servers import TRACE, Script, served
from tests.calibration.tiny_engines.racing import entry


def test_a_server_that_fails_is_a_result(tmp_path: Path) -> None:
    refused = NoPoint(load=C4, reason="400: prompts of token ids are not taken")
    script = Script(tps={"quick": 200.0, "dies": NeverReady("killed by SIGSEGV"), "refuses": refused})
    tally = served(tmp_path, script, entry("dies"), entry("refuses"), entry("quick"))
    failures = {o.candidate.variant: o for o in tally.outcomes if isinstance(o, Unserved)}
    dies, refuses = failures["dies"], failures["refuses"]
    assert (dies.kind, dies.stage, dies.message) == (FailureKind.CRASHED, "serve", "killed by SIGSEGV")
    assert dies.log_tail == "loading"
    assert (refuses.kind, refuses.stage) == (FailureKind.REFUSED, C4.label)
    assert refuses.message == "400: prompts of token ids are not taken"
    assert [name for name, _, _ in script.started].count("dies") == 1
    assert tally.out == {"scripted:dies": "crashed in serve", "scripted:refuses": f"refused in {C4.label}"}
    again = served(tmp_path, script, entry("dies"), entry("refuses"), entry("quick"))
    assert again.out == tally.out, "a second run says of them what the first one did"


def test_levels_that_a_server_cannot_hold_fail_at_nothing(tmp_path: Path) -> None:
    class Small(Script):
        @contextmanager
        def start(self, spec: LaunchSpec, hold: Hold, log: Path) -> Iterator[Server]:
            if hold.slots > 4:
                raise NeverReady("no room for 8 slots", out_of_memory=True)
            with Script.start(self, spec, hold, log) as server:
                yield server

    recorder = Recorder()
    tally = served(tmp_path, Small(tps={"quick": 200.0}), entry("quick"), recorder=recorder)
    assert not any(isinstance(o, Failure) for o in tally.outcomes)
    given_up = [event.why for event in recorder.events if isinstance(event, ServerGivenUp)]
    assert given_up == ["not with 8 slots: no room for 8 slots"]


def test_a_spent_budget_begins_nothing(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 50.0})
    tally = served(tmp_path, script, entry("quick"), entry("slow"), bounds=Bounds(rounds=2, budget_s=1e-9))
    assert tally.ended == "budget"
    assert [name for name, _, _ in script.started] in ([], ["quick"])
    assert "scripted:slow" in tally.unmeasured


def test_a_trace_that_the_budget_does_not_hold_is_not_begun(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0})
    tally = served(tmp_path, script, entry("quick"), loads=(TRACE.load,), bounds=Bounds(rounds=1, budget_s=9.0))
    assert (tally.ended, script.started, tally.unmeasured) == ("budget", [], ("scripted:quick",))


def test_a_server_that_took_the_budget_is_put_under_no_load(tmp_path: Path) -> None:
    now = [0.0]

    class Slow(Script):
        @contextmanager
        def start(self, spec: LaunchSpec, hold: Hold, log: Path) -> Iterator[Server]:
            now[0] += 8.0
            with Script.start(self, spec, hold, log) as server:
                yield server

    for load, budget_s in ((TRACE.load, 10.0), (C4, 8.0)):
        script, recorder = Slow(tps={"quick": 200.0}), Recorder()
        now[0] = 0.0
        tally = served(
            *(tmp_path, script, entry("quick")),
            loads=(load,),
            bounds=Bounds(rounds=1, budget_s=budget_s),
            recorder=recorder,
            again=True,
            clock=lambda: now[0],
        )
        assert script.started == [("quick", 4, 2)]
        assert script.loaded == []
        assert [event.why for event in recorder.of(ServerGivenUp)] == ["the budget ended"]
        assert tally.ended == "budget"
        assert not any(isinstance(o, Failure) for o in tally.outcomes), "it failed at nothing"
