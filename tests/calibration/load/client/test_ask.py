"""One answer from a server that streams well, badly, or not at all."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from calibration.errors import UsageError
from calibration.load.client.ask import Address, Answer, ask
from calibration.load.sample import CUT, Asked
from tests.calibration.load.mock_server import Mock, Reply, Script, steady

KEY = "secret"


async def asked_of(mock: Mock, tokens: int = 4, path: str = "/v1/completions") -> Asked:
    answer = Answer(number=0, prompt_tokens=3, output_tokens=tokens)
    body = b'{"prompt": [5, 6, 7], "max_tokens": %d}' % tokens
    await ask(Address.of(mock.url, path, KEY), body, answer, time.monotonic)
    return answer.asked()


def served(script: Script, do: Callable[[Mock], Awaitable[Asked]] = asked_of) -> tuple[Asked, Mock]:
    """Ask a server that listens in the same loop."""

    async def run() -> tuple[Asked, Mock]:
        mock = Mock(script=script)
        server = await asyncio.start_server(mock.take, "127.0.0.1", 0)
        async with server:
            mock.port = server.sockets[0].getsockname()[1]
            result = await asyncio.wait_for(do(mock), 20)
            while mock.open:
                await asyncio.sleep(0.001)
        return result, mock

    return asyncio.run(run())


def test_an_answer_has_a_time_for_each_chunk_after_it_was_written() -> None:
    sample, mock = served(steady(0.02, 0.005))
    [seen] = mock.requests
    assert (sample.error, sample.prompt_tokens, sample.output_tokens) == ("", 3, 4)
    assert len(sample.chunks_s) == len(seen.wrote_s) == 4
    assert list(sample.chunks_s) == sorted(sample.chunks_s)
    # 10 microseconds are lost in rounding.
    assert all(came >= wrote - 1e-5 for wrote, came in zip(seen.wrote_s, sample.chunks_s, strict=True))
    assert sample.sent_s <= seen.came_s + 1e-5
    assert not seen.left


def test_a_request_is_what_a_server_expects() -> None:
    _, mock = served(steady(0.0, 0.0))
    [seen] = mock.requests
    assert seen.path == "/v1/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["host"] == f"127.0.0.1:{mock.port}"
    assert (seen.headers["connection"], seen.headers["content-type"]) == ("close", "application/json")
    assert seen.body == {"prompt": [5, 6, 7], "max_tokens": 4}


async def _several_tokens_a_chunk(reply: Reply) -> None:
    await reply.head(chunked=False)
    await reply.raw(": ping\n\n")
    await reply.event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    await reply.token("")
    await reply.raw("event: message\nid: 3\n")
    await reply.token(" two words")
    await reply.raw(": another ping\n\n")
    await reply.event({"choices": []})
    await reply.event({"choices": [{"index": 0, "delta": {"content": "\u00fc\U0001f463"}}]})
    await reply.token("", finish="length")
    await reply.usage(4, prompt_tokens_details={"cached_tokens": 2})
    await reply.end()


def test_roles_empty_chunks_and_comments_are_no_tokens() -> None:
    sample, mock = served(_several_tokens_a_chunk)
    assert (sample.error, sample.output_tokens, sample.cached_tokens) == ("", 4, 2)
    assert len(sample.chunks_s) == 2
    assert sample.chunks_s[0] >= mock.requests[0].wrote_s[0] - 1e-5


async def _ids_without_text(reply: Reply) -> None:
    await reply.head()
    for token in range(reply.tokens):
        await reply.event({"choices": [{"index": 0, "text": "", "token_ids": [token]}]})
    await reply.event({"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
    await reply.end()


def test_token_ids_are_tokens_and_a_length_that_ends_an_answer_counts_them() -> None:
    sample, _ = served(_ids_without_text)
    assert (sample.error, len(sample.chunks_s), sample.output_tokens) == ("", 4, 4)


def scripted(*, head: str = "200 OK", kind: str = "text/event-stream", chunked: bool = True, text: str = "") -> Script:
    async def script(reply: Reply) -> None:
        await reply.head(head, kind, chunked=chunked)
        if text:
            await reply.raw(text)
        if chunked:
            await reply._write(b"0\r\n\r\n")

    return script


TOKEN = 'data: {"choices": [{"text": " a"}]}\n\n'
END = "data: [DONE]\n\n"
USAGE = 'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": %d}}\n\n'
STOPPED = 'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (
            scripted(head="500 Internal Server Error", kind="text/plain", text="kernel\nexploded"),
            "HTTP 500: kernel exploded",
        ),
        (
            scripted(head="429 Too Many Requests", kind="application/json", text='{"error": {"message": "slow down"}}'),
            "HTTP 429: slow down",
        ),
        (
            scripted(head="401 Unauthorized", kind="application/json", text='{"error": "Unauthorized"}', chunked=False),
            "HTTP 401: Unauthorized",
        ),
        (scripted(head="404 Not Found", kind="application/json", text='{"detail": "no such"}'), "HTTP 404: no such"),
        (scripted(head="503 Service Unavailable"), "HTTP 503: nothing more was said"),
        (scripted(head="422 Unprocessable", kind="application/json", text='{"message": "no ids"}'), "HTTP 422: no ids"),
        (
            scripted(kind="application/json", text='{"choices": []}'),
            "no stream but application/json: {'choices': []}",
        ),
        (scripted(), "the stream ended after 0 chunks, before the answer did"),
        (scripted(text=2 * TOKEN), "the stream ended after 2 chunks, before the answer did"),
        (scripted(text=2 * TOKEN, chunked=False), "the stream ended after 2 chunks, before the answer did"),
        (scripted(text=TOKEN + END), "the stream told no usage"),
        (scripted(text=TOKEN + STOPPED + USAGE % 2), "the answer has 2 tokens; 4 were asked for"),
        (scripted(text=USAGE % 4 + END), "no chunk had a token"),
        (
            scripted(text=TOKEN + 'data: {"error": {"message": "engine died", "code": 500}}\n\n'),
            "the stream told an error: engine died",
        ),
        (scripted(text="data: [1]\n\n"), "the stream has an event that is no object: [1]"),
        (scripted(text="data: {nonsense\n\n"), "Expecting property name enclosed in double quotes"),
    ],
)
def test_what_is_no_whole_answer_says_why(script: Script, error: str) -> None:
    sample, _ = served(script)
    assert sample.error.startswith(error)
    assert sample.error == error or "Expecting" in error


def test_an_answer_whose_tokens_are_no_text_is_there_at_its_end() -> None:
    empty = 'data: {"choices": [{"text": "", "finish_reason": "length"}]}\n\n'
    sample, _ = served(scripted(text=empty + USAGE % 4 + END))
    assert (sample.error, sample.output_tokens, len(sample.chunks_s)) == ("", 4, 1)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "first"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, False, b"POST /v1/completions HTTP/1.1\r\n"),
        ("http://there", "there", 80, False, b"POST /v1/completions HTTP/1.1\r\n"),
        ("https://there/models/", "there", 443, True, b"POST /models/v1/completions HTTP/1.1\r\n"),
        ("https://there:1/models", "there", 1, True, b"POST /models/v1/completions HTTP/1.1\r\n"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, host: str, port: int, tls: bool, first: bytes) -> None:
    address = Address.of(url, "/v1/completions", "")
    assert (address.host, address.port, address.tls) == (host, port, tls)
    assert address.head.startswith(first)
    assert b"Authorization" not in address.head


@pytest.mark.parametrize("url", ["there:8000", "ftp://there", "http://", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=f"needs a URL such as http://127.0.0.1:8000; found '{url}'"):
        Address.of(url, "/v1/completions", "")


async def _stays_open(reply: Reply) -> None:
    await reply.head()
    await reply.token(finish="length")
    await reply.event("[DONE]")
    await asyncio.sleep(60)


def test_an_answer_has_ended_when_it_says_so_and_not_when_the_server_closes() -> None:
    sample, mock = served(_stays_open)
    assert (sample.error, sample.output_tokens) == ("", 4)
    assert mock.requests[0].left


async def _without_an_end(reply: Reply) -> None:
    await reply.head(chunked=False)
    await reply.event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})
    await reply.raw('data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 4}}\n\ndata: [DONE]\n')


def test_a_last_event_without_an_empty_line_counts_and_so_does_a_thought() -> None:
    sample, _ = served(_without_an_end)
    assert (sample.error, len(sample.chunks_s), sample.cached_tokens) == ("", 1, 0)
    assert sample.prompt_tokens == 7  # as the server counts them


def test_a_refused_request_has_no_tokens() -> None:
    sample, _ = served(scripted(head="500 Internal Server Error", kind="text/plain", text="x" * 300))
    assert (sample.error, sample.output_tokens) == ("HTTP 500: " + "x" * 200, 0)


async def _dies(reply: Reply) -> None:
    await reply.head()
    await reply.token()
    transport = reply.writer.transport
    transport.abort()


def test_a_server_that_dies_within_an_answer_is_an_error() -> None:
    sample, _ = served(_dies)
    assert sample.error.startswith(("the stream ended after", "ConnectionResetError"))


def test_a_server_that_is_not_there_is_an_error() -> None:
    async def nobody(mock: Mock) -> Asked:
        mock.port = 1
        return await asked_of(mock)

    sample, _ = served(steady(0, 0), nobody)
    assert sample.error.startswith("ConnectionRefusedError: ")
    assert sample.chunks_s == ()


async def _stalls(reply: Reply) -> None:
    await reply.head()
    await reply.token()
    await asyncio.sleep(60)


def test_an_answer_that_nobody_waits_for_is_cut_and_the_server_learns_of_it() -> None:
    async def leave(mock: Mock) -> Asked:
        answer = Answer(number=0, prompt_tokens=3, output_tokens=4)
        task = asyncio.create_task(
            ask(Address.of(mock.url, "/v1/completions", ""), b'{"max_tokens": 4}', answer, time.monotonic)
        )
        while not answer.chunks_s:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return answer.asked()

    sample, mock = served(_stalls, leave)
    assert (sample.error, len(sample.chunks_s)) == (CUT, 1)
    assert mock.requests[0].left
