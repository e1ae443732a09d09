"""The client of the check of what is served, against the front: who runs beside whom, and what is told of each."""

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from calibration.engine.streams import Delta, Finish, Request
from calibration.served.asking import ask_at_once
from calibration.served.place import AtOnce, Untold, Wanted
from selector.serve.language.text import Text
from selector.serve.upstream import Failed
from tests.selector.serve.scripted import Scripted, counting, saying
from tests.selector.serve.serving import served, until, with_keys

LIMIT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A server of the tests as a calibration knows it."""

    url: str
    key: str = ""
    served_name: str = "tiny"
    pid: int = 0
    load_s: float = 0.0

    def ended(self) -> str:
        return ""


def wanted(first: int, new_tokens: int) -> Wanted:
    """Of an engine that counts on from the prompt's first token."""
    return Wanted(prompt=(first, 5, 6), new_tokens=new_tokens)


def counted(first: int, new_tokens: int) -> tuple[int, ...]:
    return tuple((first + number) % 256 for number in range(new_tokens))


ONE = AtOnce(first=(wanted(3, 8),))


def test_late_ones_join_while_others_run_and_one_runs_to_the_end() -> None:
    engine = Scripted(counting, slots=8, step_s=0.01)
    asked = AtOnce(running=wanted(100, 400), first=(wanted(3, 30), wanted(50, 4)), late=(wanted(20, 5), wanted(60, 6)))
    with served(engine) as there:
        told = ask_at_once(At(url=there.url), asked, LIMIT_S)
        until(lambda: bool(engine.cancelled))
    assert not isinstance(told, Untold)
    running, *others = told
    assert others == [counted(3, 30), counted(50, 4), counted(20, 5), counted(60, 6)]
    assert running == counted(100, len(running))
    assert 30 < len(running) < 400, "it ran beside the others, and was cut off then"
    order = [request.prompt[0] for request in engine.requests]
    assert (order[0], set(order[1:3]), set(order[3:])) == (100, {3, 50}, {20, 60})
    assert engine.most_running == 4, "one of the first had ended when the late ones came"
    assert [request.prompt[0] for request in engine.cancelled] == [100]


def test_more_requests_than_places_are_all_answered() -> None:
    engine = Scripted(counting, slots=1, step_s=0.001)
    asked = AtOnce(running=wanted(100, 12), first=(wanted(3, 8), wanted(50, 3)), late=(wanted(20, 5),))
    with served(engine) as there:
        told = ask_at_once(At(url=there.url), asked, LIMIT_S)
    assert told == [counted(100, 12), counted(3, 8), counted(50, 3), counted(20, 5)]


def test_a_token_that_ends_the_answer_is_told_as_the_last(text: Text) -> None:
    with served(Scripted(saying([9, 8, 7], end=2)), text) as there:
        assert ask_at_once(At(url=there.url), ONE, LIMIT_S) == [(9, 8, 7, 2)]


def short(request: Request) -> Iterable[Delta]:
    yield Delta(id=request.id, tokens=(1, 2, 3), finish=Finish.LENGTH)


def test_an_answer_of_another_length_is_wrong() -> None:
    with served(Scripted(short)) as there:
        told = ask_at_once(At(url=there.url), ONE, LIMIT_S)
    assert told == Untold(reason="request 1 of 1: asked for 8 tokens; got 3", wrong=True)


def fails(request: Request) -> Iterable[Delta | Exception]:
    if request.prompt[0] == 50:
        yield Failed("the kernel exploded")
    yield from counting(request)


def test_a_request_that_fails_is_told_with_its_reason() -> None:
    asked = AtOnce(first=(wanted(3, 8), wanted(50, 8)))
    with served(Scripted(fails)) as there:
        told = ask_at_once(At(url=there.url), asked, LIMIT_S)
    assert told == Untold(reason="request 2 of 2: HTTP 500: the kernel exploded")


def test_a_key_is_needed_where_the_server_has_one() -> None:
    with served(Scripted(counting), settings=with_keys("secret")) as there:
        refused = ask_at_once(At(url=there.url), ONE, LIMIT_S)
        told = ask_at_once(At(url=there.url, key="secret"), ONE, LIMIT_S)
    assert isinstance(refused, Untold)
    assert refused.reason.startswith("request 1 of 1: HTTP 401: this server wants a key")
    assert told == [counted(3, 8)]


def test_nobody_is_waited_for_longer_than_the_limit() -> None:
    engine = Scripted(counting, step_s=30.0)
    asked = AtOnce(running=wanted(100, 12), first=(wanted(3, 8),), late=(wanted(20, 5),))
    began = time.monotonic()
    with served(engine) as there:
        told = ask_at_once(At(url=there.url), asked, 0.3)
        assert time.monotonic() - began < 5.0
        until(lambda: len(engine.cancelled) == len(engine.requests))
    assert told == Untold(reason="request 1 of 2: no answer within the time")


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = ask_at_once(At(url=f"http://127.0.0.1:{port}"), ONE, LIMIT_S)
    assert isinstance(told, Untold)
    assert told.reason.startswith("request 1 of 1: ConnectionRefusedError: ")


@contextmanager
def answering(answer: Mapping[str, Any]) -> Iterator[str]:
    """A server that gives this answer to everybody."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"finish_reason": "length"}, "request 1 of 1: the server tells the ids of 0 of 8 tokens"),
        ({"finish_reason": "length", "token_ids": [1, 2]}, "request 1 of 1: the server tells the ids of 2 of 8 tokens"),
        ({"finish_reason": "stop", "token_ids": [1] * 6}, "request 1 of 1: the server tells the ids of 6 of 8 tokens"),
        ({}, "request 1 of 1: KeyError: 'finish_reason'"),
    ],
)
def test_a_server_that_tells_no_ids_is_not_judged(choice: dict[str, Any], reason: str) -> None:
    with answering({"choices": [choice], "usage": {"completion_tokens": 8}}) as url:
        assert ask_at_once(At(url=url), ONE, LIMIT_S) == Untold(reason=reason)


def test_the_token_that_ends_an_answer_need_not_be_told() -> None:
    choice = {"finish_reason": "stop", "token_ids": [1, 2]}
    with answering({"choices": [choice], "usage": {"completion_tokens": 3}}) as url:
        assert ask_at_once(At(url=url), ONE, LIMIT_S) == [(1, 2)]
