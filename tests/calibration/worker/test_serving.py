"""The lines between a worker that serves and its parent, and what is refused before an engine sees it."""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.backend import Job, Variant
from calibration.engine.streams import Delta, Finish, Request, TokenScores
from calibration.worker.serving import (
    _read,
    delta_from_plain,
    delta_to_plain,
    request_from_plain,
    request_to_plain,
    serve,
)
from tests.calibration.tiny_engines.counting_streams import CountingStreams

REQUEST = Request(
    id="a",
    prompt=(1, 2, 3),
    max_tokens=4,
    end_tokens=frozenset({7, 9}),
    temperature=0.5,
    top_p=0.25,
    seed=-3,
    logprobs=2,
)
DELTA = Delta(
    id="a",
    tokens=(4, 5),
    scores=(TokenScores(chosen=-0.25, likeliest=((4, -0.25), (9, -2.0))), TokenScores(chosen=-1.0)),
    finish=Finish.STOP,
    message="so",
)


def through_json(plain: Any) -> Any:
    return json.loads(json.dumps(plain))


def test_a_request_arrives_as_it_was_sent() -> None:
    assert request_from_plain(through_json(request_to_plain(REQUEST))) == REQUEST
    least = Request(id="b", prompt=(1,), max_tokens=1)
    assert request_from_plain(through_json(request_to_plain(least))) == least


@pytest.mark.parametrize(
    ("delta", "length"),
    [
        (DELTA, 5),
        (replace(DELTA, scores=()), 4),
        (replace(DELTA, scores=(), message=""), 3),
        (replace(DELTA, scores=(), message="", finish=None), 2),
        (replace(DELTA, message="", finish=None), 5),
        (Delta(id="x"), 2),
    ],
)
def test_a_delta_arrives_as_it_was_sent_without_what_it_lacks(delta: Delta, length: int) -> None:
    plain = through_json(delta_to_plain(delta))
    assert (delta_from_plain(plain), len(plain)) == (delta, length)


def served(*commands: dict[str, Any], lines_told: int = 0, **options: Any) -> list[Delta]:
    """What comes for commands.

    Args:
        lines_told: the pipe ends when so many lines have come.
    """
    job = Job(
        model_dir=Path(), artifact_dir=None, dtype="float32", vocab_size=64, device="cpu", threads=1,
        max_context_tokens=128, max_batch=4, variant=Variant(name="plain", options=options),
    )  # fmt: skip
    events = io.StringIO()

    def pipe() -> Iterator[str]:
        yield from map(json.dumps, commands)
        end = time.monotonic() + 10
        while events.getvalue().count("\n") < lines_told and time.monotonic() < end:
            time.sleep(0.001)

    serve(CountingStreams(job), 64, pipe(), events)
    lines = [json.loads(line) for line in events.getvalue().splitlines()]
    assert all(line["event"] == "deltas" and line["deltas"] for line in lines)
    return [delta_from_plain(plain) for line in lines for plain in line["deltas"]]


def added(name: str, **fields: Any) -> dict[str, Any]:
    plain = request_to_plain(Request(id=name, prompt=(5,), max_tokens=1))
    return {"verb": "add", **plain, **fields}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": [3, 64, -1]}, "needs token ids from 0 to 63; found 64"),
        ({"prompt": [-1]}, "needs token ids from 0 to 63; found -1"),
        ({"prompt": []}, "needs a prompt of at least one token; found none"),
        ({"max_tokens": 0}, "needs at least one new token; found max_tokens 0"),
        ({"temperature": 1.0, "top_p": 0.5}, "needs an engine that can do top_p; this one cannot"),
        ({"prompt": [13]}, "needs luck; found 13"),
    ],
)
def test_a_request_that_cannot_be_answered_leaves_the_others_alone(fields: dict[str, Any], message: str) -> None:
    told = served(added("a"), added("b", **fields), {"verb": "cancel", "id": "b"}, lines_told=2, refuses=True)
    assert sorted(told, key=lambda delta: delta.id) == [
        Delta(id="a", tokens=(6,), finish=Finish.LENGTH),
        Delta(id="b", finish=Finish.ERROR, message=message),
    ]


def test_a_verb_that_it_does_not_know_is_an_error() -> None:
    with pytest.raises(LookupError, match="a worker that serves was told to sing"):
        served({"verb": "sing"})


def test_a_command_is_the_takers_as_soon_as_it_is_handed_over() -> None:
    """The thread that serves may have taken its verb out before the reading one goes on."""
    lines = [json.dumps({"verb": verb, "id": "a"}) + "\n" for verb in ("add", "cancel", "close", "add")]
    taken: list[str] = []
    _read(lines, lambda command: taken.append(command.pop("verb")))
    assert taken == ["add", "cancel", "close", "close"]


@pytest.mark.parametrize("nonsense", ["{", "{}"])
def test_a_worker_that_can_read_no_more_closes(nonsense: str) -> None:
    taken: list[dict[str, Any]] = []
    with pytest.raises((ValueError, KeyError)):
        _read([nonsense, json.dumps({"verb": "add"})], taken.append)
    assert taken == [{"verb": "close"}]
