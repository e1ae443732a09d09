"""Clients that are broken, slow, gone or hostile, and engines that fail: each is told, and the others are served."""

import asyncio
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

import openai
import pytest

from calibration.engine.streams import Ability, Delta, Finish, Request, TokenScores
from selector.serve.api.app import app
from selector.serve.api.errors import error_response
from selector.serve.language.text import Text
from selector.serve.upstream import Ask, Piece, Unavailable
from tests.selector.serve.api.recorder import Recorder
from tests.selector.serve.scripted import Scripted, counting, saying
from tests.selector.serve.serving import SETTINGS, events, read_all, request, running, served, told, until, with_keys

FOREVER = {"model": "tiny", "prompt": [70], "max_tokens": 500}


def post(body: object) -> bytes:
    return request("POST", "/v1/completions", json.dumps(body).encode())


def hurried(client: openai.OpenAI) -> float:
    """Seconds that a short answer takes."""
    begin = time.monotonic()
    assert client.completions.create(model="tiny", prompt=[70], max_tokens=3).choices[0].finish_reason == "length"
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (
            b'{"model": "tiny", "prompt": "Hi"',
            "the body is not JSON: Expecting ',' delimiter: line 1 column 33 (char 32)",
        ),
        (b'{"model": "tiny", "prompt": "\xff\xfe"}', "the body is not UTF-8: invalid start byte at byte 29"),
        (b"[" * 1_000_000, "the body is nested too deeply"),
        (b"null", "the body needs to be a JSON object"),
        (b'{"model": "tiny", "prompt": "\\ud83d"}', "`prompt` has half a character (a lone surrogate) at 0"),
        (
            b'{"model": "tiny", "prompt": "Hi", "n": 1e999}',
            "`n` = Infinity is not possible with this server; it takes only 1",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions"])
def test_bodies_that_are_none(body: bytes, message: str, path: str, text: Text) -> None:
    with served(Scripted(saying([9])), text) as there:
        answer = there.ask("POST", path, body)
        assert (answer.status, answer.error["message"]) == (400, message)
        assert there.ask("POST", path, {"model": "tiny", "prompt": "Hi", "max_tokens": 1}).status == 200


def test_what_is_no_http_at_all(text: Text) -> None:
    with served(Scripted(saying([9])), text) as there:
        with there.connection() as raw:
            raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
            assert told(read_all(raw)).status == 400
        assert there.ask("GET", "/health").status == 200


def test_routes_that_are_none(text: Text) -> None:
    with served(Scripted(saying([9])), text) as there:
        answer = there.ask("POST", "/v1/embeddings", {"model": "tiny", "input": "Hi"})
        assert (answer.status, answer.error) == (
            404,
            {
                "message": "there is no /v1/embeddings; there are /v1/chat/completions, /v1/completions, /v1/models, "
                "/health",
                "type": "invalid_request_error",
                "param": None,
                "code": "unknown_url",
            },
        )
        answer = there.ask("GET", "/v1/completions")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert answer.error["message"] == "/v1/completions has no GET; it has POST"


def test_ten_megabytes_of_prompt(text: Text) -> None:
    """Refused at once, with both numbers, while others are served."""
    with served(Scripted(saying([9] * 9)), text) as there, there.client() as client:
        for prompt in ("What is it? " * 873_814, [5] * 3_000_000):
            begin = time.monotonic()
            answer = there.ask("POST", "/v1/completions", {"model": "tiny", "prompt": prompt})
            taken_s = time.monotonic() - begin
            assert answer.status == 400
            assert answer.error["code"] == "context_length_exceeded"
            assert answer.error["message"].startswith("this model's context holds 512 tokens; asked are ")
            assert taken_s < 3
            hurried(client)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_body_that_is_too_large(announced: bool, text: Text) -> None:
    settings = replace(SETTINGS, body_bytes=1 << 20)
    body = b" " * ((1 << 20) + 1)
    with served(Scripted(saying([9])), text, settings=settings) as there:
        if announced:
            answer = there.ask("POST", "/v1/completions", body)
        else:
            with there.connection() as raw:
                head = {"Transfer-Encoding": "chunked", "Connection": "close"}
                whole = request("POST", "/v1/completions", b"", head).replace(b"Content-Length: 0\r\n", b"")
                chunks = [body[begin : begin + 65536] for begin in range(0, len(body), 65536)]
                for chunk in chunks:
                    whole += f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
                raw.sendall(whole + b"0\r\n\r\n")
                answer = told(read_all(raw))
        assert (answer.status, answer.error["message"]) == (413, "the body is larger than 1048576 bytes")
        assert there.ask("GET", "/health").status == 200


def test_a_body_as_large_as_may_be(text: Text) -> None:
    body = json.dumps({"model": "tiny", "prompt": [70], "max_tokens": 1}).encode()
    settings = replace(SETTINGS, body_bytes=len(body))
    with served(Scripted(saying([9])), text, settings=settings) as there:
        assert there.ask("POST", "/v1/completions", body).status == 200
        assert there.ask("POST", "/v1/completions", body + b" ").status == 413


def test_a_client_without_a_key_gets_its_answer_though_it_sends_much(text: Text) -> None:
    """Its connection would be reset if the rest of its request came after its end."""
    with served(Scripted(saying([9])), text, settings=with_keys("key")) as there, there.connection() as raw:
        whole = request("POST", "/v1/completions", b" " * (8 << 20), {"Connection": "close"})
        raw.sendall(whole[:100_000])
        time.sleep(0.1)
        raw.sendall(whole[100_000:])
        assert told(read_all(raw)).status == 401


def test_thirty_two_mebibytes_are_the_limit(text: Text) -> None:
    with served(Scripted(saying([9])), text) as there, there.connection() as raw:
        raw.sendall(
            request("POST", "/v1/completions", b"", {"Content-Length": str((32 << 20) + 1), "Connection": "close"})
        )
        answer = told(read_all(raw))
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_frees_its_place(stream: bool, text: Text) -> None:
    heard = Recorder()
    engine = Scripted(counting, slots=1, step_s=0.005)
    with served(engine, text, observer=heard) as there, there.client() as client:
        with there.connection() as raw:
            raw.sendall(post(FOREVER | {"stream": stream}))
            until(lambda: engine.steps >= 3)
            if stream:
                assert b"data: " in raw.recv(65536) + raw.recv(65536)
            assert len(engine.running) == 1
        until(lambda: engine.running == {}, within_s=1)
        assert hurried(client) < 1
    assert [request.max_tokens for request in engine.cancelled] == [500]
    assert heard.heard.count(Finish.CANCELLED) == 1


def test_a_client_that_leaves_while_it_waits_is_forgotten(text: Text) -> None:
    engine = Scripted(counting, slots=1, step_s=0.005)
    with served(engine, text) as there, there.client() as client:
        with there.connection() as first:
            first.sendall(post(FOREVER))
            until(lambda: len(engine.running) == 1)
            with there.connection() as second:
                second.sendall(post(FOREVER))
                until(lambda: len(engine.requests) == 2)
        until(lambda: engine.running == {}, within_s=1)
        hurried(client)
    assert len(engine.cancelled) == 1  # the one that waited never had a place


def test_a_client_that_leaves_before_its_body_is_sent(text: Text, caplog: pytest.LogCaptureFixture) -> None:
    with served(Scripted(saying([9] * 9)), text) as there, there.client() as client:
        with there.connection() as raw:
            raw.sendall(post(FOREVER)[:-5])
            time.sleep(0.05)
        hurried(client)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_slow_reader_holds_up_nobody_and_gets_everything(text: Text) -> None:
    """Its answer waits for it, and not its place in the engine."""
    engine = Scripted(counting, slots=1)
    with served(engine, text, send_bytes=4096) as there, there.client() as client, there.connection(2048) as raw:
        body = FOREVER | {"stream": True, "return_token_ids": True}
        raw.sendall(request("POST", "/v1/completions", json.dumps(body).encode(), {"Connection": "close"}))
        until(lambda: engine.steps == 500)  # nobody has read a byte: about 100 kB
        until(lambda: engine.running == {})
        assert hurried(client) < 1
        *chunks, done = events(told(read_all(raw)).body)
    tokens = [token for chunk in chunks for token in json.loads(chunk)["choices"][0]["token_ids"]]
    assert tokens == [(70 + number) % 256 for number in range(500)]
    assert done == "[DONE]"


def test_a_reader_that_takes_nothing_is_given_up(text: Text, caplog: pytest.LogCaptureFixture) -> None:
    settings = replace(SETTINGS, reader_s=0.2)
    engine = Scripted(counting)
    with served(engine, text, settings=settings, context_tokens=9000, send_bytes=4096) as there:
        with there.connection(2048) as raw:
            raw.sendall(post(FOREVER | {"stream": True, "max_tokens": 8000}))
            until(lambda: "a client took nothing for 0 s: its answer is given up" in caplog.messages)
            assert b"[DONE]" not in read_all(raw)
        with there.client() as client:
            hurried(client)


def test_a_stream_without_news_says_that_it_lives(text: Text) -> None:
    settings = replace(SETTINGS, keep_alive_s=0.05)
    with served(Scripted(saying([9] * 2), step_s=0.2), text, settings=settings) as there, there.client() as client:
        body = {"model": "tiny", "prompt": [70], "max_tokens": 2, "stream": True}
        answer = there.ask("POST", "/v1/completions", body)
        chunks = list(client.completions.create(model="tiny", prompt=[70], max_tokens=2, stream=True))
    assert answer.body.startswith(b": the engine is at work\n\n")
    assert answer.body.count(b": the engine is at work\n\n") >= 4
    assert len(events(answer.body)) == 3
    assert len(chunks) == 2


def failing(error: Exception, after: int) -> Scripted:
    def script(request: Request) -> Iterable[Delta | Exception]:
        for _ in range(after):
            yield Delta(id=request.id, tokens=(70,))
        yield error

    return Scripted(script)


@pytest.mark.parametrize(
    ("error", "status", "message", "code"),
    [
        (Unavailable("the engine crashed"), 503, "the engine crashed", "engine_unavailable"),
        (ZeroDivisionError("secret"), 500, "the server failed; its log says how", "internal_error"),
    ],
)
def test_an_engine_that_fails(
    error: Exception, status: int, message: str, code: str, text: Text, caplog: pytest.LogCaptureFixture
) -> None:
    for after, stream in ((0, True), (0, False), (2, False)):
        with served(failing(error, after), text) as there:
            answer = there.ask("POST", "/v1/completions", FOREVER | {"stream": stream})
            assert (answer.status, answer.error["message"], answer.error["code"]) == (status, message, code)
            assert there.ask("GET", "/health").status == 200
    if status == 500:
        assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error] * 3
    else:
        assert "retry-after" in answer.headers
        assert caplog.records == []


@pytest.mark.parametrize("error", [Unavailable("the engine crashed"), ZeroDivisionError("secret")])
def test_an_engine_that_fails_within_a_stream(error: Exception, text: Text, caplog: pytest.LogCaptureFixture) -> None:
    """The last event tells it, and there is no [DONE]: the answer is not complete."""
    told_message = "the engine crashed" if isinstance(error, Unavailable) else "the server failed; its log says how"
    with served(failing(error, 2), text) as there, there.client() as client:
        answer = there.ask("POST", "/v1/completions", FOREVER | {"stream": True})
        stream = client.completions.create(model="tiny", prompt=[70], stream=True)
        read: list[str] = []
        with pytest.raises(openai.APIError, match=told_message):
            read.extend(chunk.choices[0].text for chunk in stream)
        stream.close()
    assert answer.status == 200
    *chunks, last = events(answer.body)
    assert len(chunks) == 2
    assert json.loads(last)["error"]["message"] == told_message
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert logged == ([] if isinstance(error, Unavailable) else [error] * 2)


@dataclass(frozen=True)
class Saying:
    """An upstream that gives these pieces, and then ends."""

    pieces: tuple[Piece, ...]
    abilities: frozenset[Ability] = frozenset(Ability)
    context_tokens: int = 100
    ready: bool = True

    async def answer(self, ask: Ask) -> AsyncIterator[Piece]:
        for piece in self.pieces:
            yield piece


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ((Piece(finish=Finish.ERROR),), "the engine ended the answer: error"),
        ((Piece(finish=Finish.CANCELLED),), "the engine ended the answer: cancelled"),
        ((), "the answer has no end"),
    ],
)
def test_an_upstream_that_ends_otherwise_than_it_may(last: tuple[Piece, ...], message: str) -> None:
    heard = Recorder()
    upstream = Saying((Piece(text="a", tokens=(5,)), *last))
    with running(app(upstream, SETTINGS, observer=heard)) as there:
        answer = there.ask("POST", "/v1/completions", FOREVER)
        streamed = there.ask("POST", "/v1/completions", FOREVER | {"stream": True})
    assert (answer.status, answer.error["message"], answer.error["code"]) == (500, message, "engine_failed")
    assert json.loads(events(streamed.body)[-1])["error"]["message"] == message
    assert heard.heard == [500, ((5,), 0), Finish.ERROR, 500, 500, ((5,), 0), Finish.ERROR]


def test_scores_that_nobody_asked_for_are_not_told() -> None:
    piece = Piece(
        text="a",
        tokens=(5,),
        scores=(TokenScores(chosen=-0.5),),
        finish=Finish.STOP,
        prompt_tokens=1,
        completion_tokens=1,
    )
    with running(app(Saying((piece,)), SETTINGS)) as there:
        [choice] = json.loads(there.ask("POST", "/v1/completions", FOREVER).body)["choices"]
    assert choice == {"text": "a", "index": 0, "logprobs": None, "finish_reason": "stop"}


@pytest.mark.parametrize(("wait_s", "told_s"), [(None, "5"), (0.0, "1"), (2.1, "3")])
def test_when_to_ask_again(wait_s: float | None, told_s: str) -> None:
    assert error_response(Unavailable("away", retry_after_s=wait_s)).headers["retry-after"] == told_s


def test_many_leave_at_once_and_the_others_get_their_answers(text: Text) -> None:
    engine = Scripted(counting, slots=4, step_s=0.001)
    with served(engine, text) as there, there.client() as client:
        answers: list[str] = []

        def ask() -> None:
            answer = client.completions.create(model="tiny", prompt=[70], max_tokens=50)
            answers.append(answer.choices[0].text)

        staying = [threading.Thread(target=ask) for _ in range(8)]
        for thread in staying:
            thread.start()
        for _ in range(24):
            with there.connection() as raw:
                raw.sendall(post(FOREVER | {"stream": True}))
        for thread in staying:
            thread.join(30)
        until(lambda: engine.running == {})
    assert answers == [text._tokenizer.decode(list(range(70, 120)))] * 8


class Bursting:
    """An upstream that gives a piece, and then a hundred at once, while nobody could see that the client has left."""

    abilities = frozenset(Ability)
    context_tokens = 500
    ready = True

    def __init__(self) -> None:
        self.begun, self.left = threading.Event(), threading.Event()

    async def answer(self, ask: Ask) -> AsyncIterator[Piece]:
        yield Piece(text="a", tokens=(5,))
        await asyncio.sleep(0.05)  # it is sent
        self.begun.set()
        assert self.left.wait(10)
        for _ in range(100):
            yield Piece(text="b", tokens=(6,))
        yield Piece(finish=Finish.LENGTH, prompt_tokens=1, completion_tokens=101)


def test_what_comes_at_once_for_a_client_that_has_left_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio writes a warning for each write after the fifth to a connection that is lost."""
    upstream, heard = Bursting(), Recorder()
    with running(app(upstream, SETTINGS, observer=heard)) as there:
        with there.connection() as raw:
            # Closed without more ado: the next write fails.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.sendall(post(FOREVER | {"stream": True}))
            assert upstream.begun.wait(10)
        upstream.left.set()
        until(lambda: Finish.LENGTH in heard.heard)
        time.sleep(0.05)
    assert caplog.messages == []


def test_what_comes_at_once_is_told_event_by_event() -> None:
    upstream = Bursting()
    upstream.left.set()
    with running(app(upstream, SETTINGS)) as there:
        *chunks, done = events(there.ask("POST", "/v1/completions", FOREVER | {"stream": True}).body)
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == ["a", *["b"] * 100, ""]
    assert [choice["finish_reason"] for choice in choices] == [*[None] * 101, "length"]
    assert done == "[DONE]"
