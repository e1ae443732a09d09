"""A race of servers from first launch to last: what is checked, stored, resumed, dropped and given up."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from calibration.cache.cache import Cache
from calibration.conversion.store import ArtifactStore
from calibration.events import (
    CandidateOut,
    Event,
    LaunchEnded,
    PointBegan,
    PointEnded,
    ReferenceBegan,
    ServedCheckBegan,
    ServedCheckEnded,
    ServerBegan,
    ServerGivenUp,
    ServerReady,
)
from calibration.launch.reference import reference_of
from calibration.load.load import Load
from calibration.load.sample import NoPoint, Point
from calibration.measurement import Check, Failure, FailureKind, OutputVerdict, Served, Unserved
from calibration.race.state import Bounds
from calibration.served.place import AtOnce, Hold, NeverReady, Server, Serving, Untold, Wanted
from calibration.served.race import race_served
from calibration.served.tally import ServedTally
from calibration.supervision.launch_spec import LaunchSpec
from tests.calibration.engines.racing import LIMITS, entry, subject
from tests.calibration.engines.scripted import VOCAB, next_token
from tests.calibration.points import C4, point, replayed, trace_of
from tests.calibration.race.recording import Recorder

ONE, TWICE = Load.parse("pp16:tg8:c1"), Load.parse("pp16:tg8:c8")
HOLD = Hold(slots=4, context_tokens=24, threads=2)
TRACE = trace_of(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenServer:
    """A server that nobody asks: points are scripted."""

    spec: LaunchSpec
    hold: Hold
    url: str = "http://127.0.0.1:9"
    key: str = ""
    served_name: str = "model"
    pid: int = 0
    load_s: float = 0.5

    def ended(self) -> str:
        return ""


@dataclass(slots=True, kw_only=True)
class Script:
    """What each candidate does: tokens a second of the load, or why it has none."""

    tps: Mapping[str, float | NeverReady | NoPoint]
    """By the variant's name, and by that with its threads: `quick`, `quick/1`."""
    started: list[tuple[str, int, int]] = field(default_factory=list)
    """Variant, slots and threads of each server."""
    loaded: list[tuple[str, str]] = field(default_factory=list)
    open: int = 0

    @contextmanager
    def start(self, spec: LaunchSpec, hold: Hold, log: Path) -> Iterator[Server]:
        self.started.append((spec.candidate.variant, hold.slots, hold.threads))
        log.write_text("loading\n")
        told = self.tps[spec.candidate.variant]
        if isinstance(told, NeverReady):
            raise told
        self.open += 1
        try:
            yield OpenServer(spec=spec, hold=hold)
        finally:
            self.open -= 1

    void: dict[str, str] = field(default_factory=dict)
    """Variant: why its points are void."""
    answers: Mapping[str, Callable[[Wanted], Sequence[int]] | Untold] = field(default_factory=dict)
    """Variant, or that with its slots: what it answers as it is served; of the others what is right."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Variant and number of the requests at once."""

    def ask(self, server: Server, asked: AtOnce, _limit_s: float) -> Sequence[tuple[int, ...]] | Untold:
        assert isinstance(server, OpenServer)
        assert self.open == 1, "the server is up"
        name = server.spec.candidate.variant
        every = [*([asked.running] if asked.running else []), *asked.first, *asked.late]
        self.asked.append((name, len(every)))
        answer = self.answers.get(f"{name}/{server.hold.slots}", self.answers.get(name, counted))
        return answer if isinstance(answer, Untold) else [tuple(answer(one)) for one in every]

    def measure(self, server: Server, load: Load, _limit_s: float | None) -> Point | NoPoint:
        assert isinstance(server, OpenServer)
        assert self.open == 1, "one server at a time"
        name = server.spec.candidate.variant
        self.loaded.append((name, load.label))
        told = self.tps.get(f"{name}/{server.hold.threads}", self.tps[name])
        if isinstance(told, NoPoint):
            return told
        assert isinstance(told, float)
        if load.trace:
            return replayed(TRACE, tpot_s=1.0 / told)
        return point(load, tps=told * load.streams / 4, ttft_s=0.01, void=self.void.get(name, ""))


def counted(wanted: Wanted) -> list[int]:
    """What the scripted engine generates."""
    tokens = list(wanted.prompt)
    for _ in range(wanted.new_tokens):
        tokens.append(next_token(tokens))
    return tokens[len(wanted.prompt) :]


def off_by_one(wanted: Wanted) -> list[int]:
    """Right but for the last token of those that are asked for three."""
    tokens = counted(wanted)
    return [*tokens[:-1], (tokens[-1] + 1) % VOCAB] if wanted.new_tokens == 3 else tokens


def served(
    folder: Path,
    script: Script,
    *entries: LaunchSpec,
    loads: tuple[Load, ...] = (C4,),
    bounds: Bounds | None = None,
    recorder: Recorder | None = None,
    again: bool = False,
    fewer_threads: bool = True,
    levels: bool = True,
    judge: LaunchSpec | None = None,
    full: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> ServedTally:
    """A race of the scripted engine's candidates, checked by it and with scripted points."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    serving = Serving(
        loads=loads,
        hold=HOLD,
        start=script.start,
        measure=script.measure,
        ask=script.ask,
        value=lambda one, _memory: 1.0 / (one.output_tps or 1e-9),
        fewer_threads=fewer_threads,
        levels=levels,
        full=full,
    )
    with Cache.open(folder / "cache.db") as cache:
        return race_served(
            entries,
            subject(model),
            serving,
            cache,
            ArtifactStore(folder / "artifacts"),
            recorder or Recorder(),
            reference=reference_of(judge or entry("reference")),
            bounds=bounds or Bounds(rounds=2),
            again=again,
            limits=LIMITS,
            clock=clock,
        )


def kept(folder: Path) -> list[object]:
    with Cache.open(folder / "cache.db") as cache:
        return list(cache.all())


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


def test_a_wrong_output_is_never_served(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "wrong": 900.0})
    tally = served(tmp_path, script, entry("wrong", off_by_one=True), entry("quick"))
    assert "wrong" not in [name for name, _, _ in script.started]
    [failure] = [o for o in tally.outcomes if isinstance(o, Failure)]
    assert (failure.candidate.label, failure.kind) == ("scripted:wrong", FailureKind.WRONG_OUTPUT)
    assert tally.out["scripted:wrong"] == "wrong output in check"


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
    assert set(tally.out) == {"scripted:dies", "scripted:refuses"}


def test_who_was_disturbed_has_another_launch(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "slow": 80.0}, void={"slow": "other programs used 30 % of the cores"})
    tally = served(tmp_path, script, entry("slow"), entry("quick"))
    assert [name for name, _, _ in script.started].count("slow") == 2
    assert tally.out == {}
    calm = Script(tps={"quick": 200.0, "slow": 80.0})
    again = served(tmp_path, calm, entry("slow"), entry("quick"), again=True)
    assert [name for name, _, _ in calm.started].count("slow") == 1
    assert list(again.out) == ["scripted:slow"]


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


def test_what_is_served_is_checked_once_for_each_way_of_serving_it(tmp_path: Path) -> None:
    script, recorder = Script(tps={"quick": 200.0}), Recorder()
    served(tmp_path, script, entry("quick"), recorder=recorder)
    assert script.started == [*[("quick", 4, 2)] * 2, ("quick", 4, 1), ("quick", 8, 2)]
    assert script.asked == [("quick", 8), ("quick", 8), ("quick", 12)], "of two, four and eight places and threads"
    launches = [o for o in kept(tmp_path) if isinstance(o, Served)]
    assert [o.as_served.verdict for o in launches] == [OutputVerdict.RIGHT] * 4
    assert launches[0].as_served.detail == "55 of 55 tokens of 8 requests at once are the reference's"
    kinds = (ServerReady, ServedCheckBegan, ServedCheckEnded, PointBegan)
    told = [type(event).__name__ for event in recorder.events if isinstance(event, kinds)]
    assert told[:6] == [
        "ServerReady",
        "ServedCheckBegan",
        "ServedCheckEnded",
        "PointBegan",
        "ServerReady",
        "PointBegan",
    ]


def test_who_answers_wrong_as_served_takes_no_load_though_it_is_right_alone(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "mixes": 900.0}, answers={"mixes": off_by_one})
    tally = served(tmp_path, script, entry("mixes"), entry("quick"))
    [alone] = [o for o in tally.outcomes if isinstance(o, Check) and o.candidate.variant == "mixes"]
    assert alone.agreement.verdict is OutputVerdict.RIGHT
    [failure] = [o for o in kept(tmp_path) if isinstance(o, Unserved)]
    assert (failure.candidate.variant, failure.kind) == ("mixes", FailureKind.WRONG_OUTPUT)
    assert failure.stage == "check as served"
    assert failure.message.startswith("token 8 after prompt 1 is ")
    assert failure.message.endswith("; 54 of 55 tokens of 8 requests at once are the reference's")
    assert "mixes" not in [name for name, _ in script.loaded]
    assert [name for name, _, _ in script.started].count("mixes") == 1
    assert tally.out["scripted:mixes"] == "wrong output in check as served"


def test_who_answers_wrong_with_more_places_is_wrong_as_served(tmp_path: Path) -> None:
    tally = served(tmp_path, Script(tps={"quick": 200.0}, answers={"quick/8": off_by_one}), entry("quick"))
    last = tally.outcomes[-1]
    assert isinstance(last, Unserved) and last.kind is FailureKind.WRONG_OUTPUT
    assert last in kept(tmp_path)
    assert tally.out == {"scripted:quick": "wrong output in check as served"}


def test_an_answer_of_another_length_is_wrong_output(tmp_path: Path) -> None:
    untold = Untold(reason="request 1 of 7: asked for 8 tokens; got 7", wrong=True)
    tally = served(tmp_path, Script(tps={"quick": 200.0}, answers={"quick": untold}), entry("quick"))
    [failure] = [o for o in tally.outcomes if isinstance(o, Unserved)]
    assert (failure.kind, failure.message) == (FailureKind.WRONG_OUTPUT, untold.reason)


def test_what_cannot_be_compared_is_not_called_right(tmp_path: Path) -> None:
    untold = Untold(reason="request 1 of 7: the server tells the ids of 0 of 8 tokens")
    script = Script(tps={"quick": 200.0}, answers={"quick": untold})
    served(tmp_path, script, entry("quick"))
    launches = [o for o in kept(tmp_path) if isinstance(o, Served)]
    assert {(o.as_served.verdict, o.as_served.detail) for o in launches} == {(OutputVerdict.UNCHECKED, untold.reason)}
    assert len(script.asked) == len(script.started), "each launch tries anew"


def test_without_a_reference_nothing_is_asked(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0})
    served(tmp_path, script, entry("quick"), judge=entry("reference", load="refuse"))
    launches = [o for o in kept(tmp_path) if isinstance(o, Served)]
    assert {o.as_served.detail for o in launches} == {"no reference could be computed here"}
    assert script.asked == []


def test_the_reference_is_there_before_the_server_is(tmp_path: Path) -> None:
    """Both need memory, and the engine alone was checked by an earlier calibration."""
    script = Script(tps={"quick": 200.0})
    served(tmp_path, script, entry("quick"))
    with Cache.open(tmp_path / "cache.db") as cache:
        cache.delete([o.run_id for o in cache.all() if isinstance(o, Served)])

    class Watching(Recorder):
        def report(self, event: Event, /) -> None:
            super().report(event)
            assert not isinstance(event, ReferenceBegan) or script.open == 0

    watching = Watching()
    tally = served(tmp_path, script, entry("quick"), recorder=watching)
    assert not any(isinstance(o, Check) for o in tally.outcomes)
    assert len(watching.of(ReferenceBegan)) == 1
    assert {o.as_served.verdict for o in tally.outcomes if isinstance(o, Served)} == {OutputVerdict.RIGHT}


def test_where_answers_leave_the_path_what_comes_after_it_is_asked(tmp_path: Path) -> None:
    """Of two tokens that nearly tie an engine may choose either, and goes on otherwise from there."""

    def the_second_of_two(wanted: Wanted) -> list[int]:
        first, *others = counted(wanted)
        return [(first + 1) % VOCAB, *others]

    script = Script(tps={"quick": 200.0}, answers={"quick": the_second_of_two})
    tally = served(tmp_path, script, entry("quick", ties=True), judge=entry("reference", ties=True))
    launches = [o for o in tally.outcomes if isinstance(o, Served)]
    assert launches and {o.as_served.verdict for o in launches} == {OutputVerdict.RIGHT}
    assert [number for _, number in script.asked][:8] == [8, 3, 3, 3, 3, 3, 2, 1]


def test_in_4_bits_each_is_asked_once_more_alone(tmp_path: Path) -> None:
    def mixes_those_that_run_at_once(wanted: Wanted) -> list[int]:
        tokens = counted(wanted)
        return tokens if len(script.asked) > 1 else [(tokens[0] + 1) % VOCAB, *tokens[1:]]

    four_bits: dict[str, Any] = {"lossy": True, "precision": "int4", "ties": True}
    script = Script(tps={"quick": 200.0})
    judge = entry("reference", ties=True)
    served(tmp_path, script, entry("quick", **four_bits), judge=judge)
    assert [number for _, number in script.asked][:8] == [8, *[1] * 6, 8], "six ask for different things"
    again = Script(tps={"quick": 200.0}, answers={"quick": mixes_those_that_run_at_once})
    script = again
    tally = served(tmp_path, again, entry("quick", **four_bits), judge=judge, again=True)
    [failure] = [o for o in tally.outcomes if isinstance(o, Unserved)]
    assert (failure.kind, failure.stage) == (FailureKind.WRONG_OUTPUT, "check as served")
    assert failure.message == "8 of 8 requests are answered otherwise at once than alone"


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
