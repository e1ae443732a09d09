"""The benchmark that kills an engine: what it says of requests, of the time without an engine, and of what is left."""

import subprocess
import sys

import psutil
import pytest

from benchmarks.serving.aftermath import Kill, Outcome, Tried, counts, kills_of, outcome_of, table
from benchmarks.serving.kills import failed, left_running
from calibration.load.client.ask import Answer


def answer(status: int, error: str = "", *, done: bool = True) -> Answer:
    return Answer(number=0, prompt_tokens=8, output_tokens=4, status=status, error=error, done=done)


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (answer(200), Outcome.WHOLE),
        (answer(200, "the stream told an error: openvino ended while it answered"), Outcome.ERROR_CHUNK),
        (answer(503, "HTTP 503: openvino ended"), Outcome.REFUSED),
        (answer(400, "HTTP 400: no"), Outcome.OTHER_STATUS),
        (answer(200, "the stream ended after 3 chunks, before the answer did"), Outcome.LOST),
        (answer(200, "the answer has 3 tokens; 4 were asked for"), Outcome.LOST),
        (answer(0, "ConnectionResetError: Connection reset by peer"), Outcome.LOST),
        (answer(200, done=False), Outcome.LOST),
    ],
)  # fmt: skip
def test_how_a_request_ended(ended: Answer, outcome: Outcome) -> None:
    assert outcome_of(ended) is outcome


def tried(sent_s: float, ended_s: float, outcome: Outcome = Outcome.WHOLE) -> Tried:
    return Tried(sent_s=sent_s, ended_s=ended_s, outcome=outcome)


def test_a_kill_is_followed_until_the_next_one() -> None:
    requests = [
        tried(8.0, 9.0),
        tried(9.9, 10.25, Outcome.REFUSED),
        tried(9.8, 10.1, Outcome.ERROR_CHUNK),
        tried(9.9, 10.05),  # its last token was on the way when the engine died: the engine is not back
        tried(10.3, 10.4, Outcome.REFUSED),
        tried(13.0, 14.0),
        tried(13.0, 13.5),
        tried(20.0, 20.5),
    ]
    assert kills_of([10.0, 20.0, 30.0], requests) == [
        Kill(at_s=10.0, refused_after_s=0.25, answered_after_s=3.5),
        Kill(at_s=20.0, refused_after_s=None, answered_after_s=0.5),
        Kill(at_s=30.0, refused_after_s=None, answered_after_s=None),
    ]


def test_a_row_for_each_figure() -> None:
    requests = [tried(0.0, 1.0), tried(0.0, 1.0), *(tried(1.0, 2.0, outcome) for outcome in Outcome)]
    kills = [
        Kill(at_s=1.0, refused_after_s=0.1, answered_after_s=2.0),
        Kill(at_s=5.0, refused_after_s=0.3, answered_after_s=None),
    ]
    assert list(table(counts(requests), kills, ["17 python"])) == [
        "requests                             7",
        "accepted                             5",
        "answered whole                       3",
        "accepted, ended with an error chunk  1",
        "refused with 503                     1",
        "refused with another status          1",
        "lost without a word                  1",
        "kills                                2",
        "from kill to the first 503           0.20 s (0.10 to 0.30)",
        "from kill to the first answer again  2.00 s (2.00 to 2.00); not seen after 1",
        "left running                         17 python",
    ]
    assert list(table(counts([]), [], []))[-2:] == [
        "from kill to the first answer again  never",
        "left running                         nothing",
    ]


BACK, AWAY = (Kill(at_s=1.0, refused_after_s=0.1, answered_after_s=again_s) for again_s in (2.0, None))


@pytest.mark.parametrize(
    ("lost", "kills", "left", "is_failure"),
    [
        (0, [BACK], [], False),
        (0, [BACK, AWAY], [], False),  # the time was over before it could come back
        (0, [AWAY, BACK], [], True),
        (1, [BACK], [], True),
        (0, [BACK], ["17 python"], True),
        (0, [], [], True),
    ],
)
def test_a_server_fails_that_loses_a_request_its_engine_or_a_process(
    lost: int, kills: list[Kill], left: list[str], is_failure: bool
) -> None:
    assert failed(lost, kills, left) is is_failure


def test_a_process_that_is_left_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.serving.kills.GONE_S", 0.2)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        family = {psutil.Process(process.pid)}
        assert [entry.split()[0] for entry in left_running(family)] == [str(process.pid)]
        process.communicate(b"\n")
    assert left_running(family) == []
