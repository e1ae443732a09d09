"""A response is read the same however its bytes are cut."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.load.client.stream import EventReader, ResponseReader

EVENTS = [json.dumps({"text": "Füße 👣\n\r data: x"}, ensure_ascii=False), "two\nlines", "[DONE]"]
STREAM = (
    f": a comment\n\ndata: {EVENTS[0]}\n\nevent: named\r\nid: 7\r\ndata: two\r\ndata:lines\r\n\r\n: ping\n\n\n"
    f"data: {EVENTS[2]}\n\n"
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n"
FRAMES = {
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%X;note=1\r\n%s\r\n" % (len(part), part) for part in (STREAM[:11], STREAM[11:12], STREAM[12:90], STREAM[90:])
    ) + b"0\r\nTrailer: x\r\n\r\n",
    "length": HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(STREAM), STREAM),
    "until closed": HEAD + b"\r\n" + STREAM,
    "after interim responses": b"".join(
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", HEAD, b"\r\n", STREAM)
    ),
}  # fmt: skip


def read(parts: list[bytes]) -> tuple[ResponseReader, list[str]]:
    response, events = ResponseReader(), EventReader()
    told = [event for part in parts for event in events.feed(response.feed(part))]
    return response, [*told, *events.end()]


@pytest.mark.parametrize("framing", FRAMES)
@given(cuts=st.sets(st.integers(1, 400), max_size=12))
def test_events_are_whole_wherever_the_bytes_are_cut(framing: str, cuts: set[int]) -> None:
    whole = FRAMES[framing]
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    response, told = read([whole[begin:end] for begin, end in pairwise(places)])
    assert told == EVENTS
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert response.whole == (framing in ("chunked", "length"))


@pytest.mark.parametrize("framing", FRAMES)
def test_events_are_whole_where_every_byte_comes_alone(framing: str) -> None:
    assert read([bytes([byte]) for byte in FRAMES[framing]])[1] == EVENTS


def test_a_last_event_needs_no_empty_line() -> None:
    events = EventReader()
    assert list(events.feed(b"data: one\n\ndata: two\n")) == ["one"]
    assert list(events.end()) == ["two"]
    assert list(events.end()) == []


def test_a_body_ends_at_its_length() -> None:
    response = ResponseReader()
    assert response.feed(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslowandmore") == b"slow"
    assert (response.status, response.whole) == (429, True)
    empty = ResponseReader()
    assert empty.feed(b"HTTP/1.0 503 Busy\r\ncontent-length: 0\r\n\r\n") == b""
    assert (empty.status, empty.whole) == (503, True)


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 hello\r\n\r\n", b"x" * 70_000])
def test_what_is_no_http_is_refused(nonsense: bytes) -> None:
    with pytest.raises(ValueError, match=r"the server answered what is no HTTP/1\.1: '?b?'"):
        ResponseReader().feed(nonsense)
