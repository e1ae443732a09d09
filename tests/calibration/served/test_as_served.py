"""What a server answers is checked as it is served, before any load; what is wrong takes none."""

from pathlib import Path
from typing import Any

from calibration.cache.cache import Cache
from calibration.events import (
    Event,
    PointBegan,
    ReferenceBegan,
    ServedCheckBegan,
    ServedCheckEnded,
    ServerReady,
)
from calibration.measurement import Check, Failure, FailureKind, OutputVerdict, Served, Unserved
from calibration.served.place import Untold, Wanted
from tests.calibration.race.recording import Recorder
from tests.calibration.served.racing_servers import Script, counted, kept, off_by_one, served
from tests.calibration.tiny_engines.racing import entry
from tests.calibration.tiny_engines.scripted import VOCAB


def test_a_wrong_output_is_never_served(tmp_path: Path) -> None:
    script = Script(tps={"quick": 200.0, "wrong": 900.0})
    tally = served(tmp_path, script, entry("wrong", off_by_one=True), entry("quick"))
    assert "wrong" not in [name for name, _, _ in script.started]
    [failure] = [o for o in tally.outcomes if isinstance(o, Failure)]
    assert (failure.candidate.label, failure.kind) == ("scripted:wrong", FailureKind.WRONG_OUTPUT)
    assert tally.out["scripted:wrong"] == "wrong output in check"


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
