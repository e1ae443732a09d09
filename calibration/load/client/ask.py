"""Asks for one answer over a connection of its own, and notes when each chunk of it comes."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from calibration.errors import UsageError
from calibration.load.client.stream import EventReader, ResponseReader
from calibration.load.sample import CUT, Asked

REFUSAL_BYTES = 4096
"""What is read of an answer that is no stream."""
TOLD_ERROR = "the stream told an error"
"""How `Answer.error` begins where an answer that had begun ended with an error chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens and how a request to it begins."""

    host: str
    port: int
    tls: bool
    head: bytes
    """The request's head up to its Content-Length."""

    @classmethod
    def of(cls, url: str, path: str, key: str) -> "Address":
        """The address behind `http://host:port`.

        Raises:
            UsageError: it is no such URL.
        """
        at = urlsplit(url)
        if at.scheme not in ("http", "https") or not at.hostname:
            raise UsageError(f"needs a URL such as http://127.0.0.1:8000; found {url!r}")
        fields = [
            f"POST {at.path.rstrip('/')}{path} HTTP/1.1",
            f"Host: {at.netloc}",
            "Content-Type: application/json",
            "Accept: text/event-stream",
            "Connection: close",
            *([f"Authorization: Bearer {key}"] if key else []),
        ]
        tls = at.scheme == "https"
        return cls(
            host=at.hostname,
            port=at.port or (443 if tls else 80),
            tls=tls,
            head="".join(f"{line}\r\n" for line in fields).encode(),
        )


@dataclass(slots=True, kw_only=True)
class Answer:
    """A request while it is asked. Times are the clock's."""

    number: int
    prompt_tokens: int
    output_tokens: int
    """As many as were asked for; the answer must have neither more nor fewer."""
    due_s: float | None = None
    sent_s: float = 0.0
    chunks_s: list[float] = field(default_factory=list)
    usage: Mapping[str, Any] | None = None
    finish: str = ""
    finished_s: float | None = None
    """When the server said why the answer ended."""
    status: int = 0
    """Of HTTP; 0 where nothing came."""
    error: str = ""
    done: bool = False
    counted: bool = False

    def asked(self) -> Asked:
        """The raw sample that it is now."""
        usage = self.usage or {}
        details = usage.get("prompt_tokens_details") or {}
        return Asked(
            number=self.number,
            due_s=None if self.due_s is None else round(self.due_s, 5),
            sent_s=round(self.sent_s, 5),
            chunks_s=tuple(round(at, 5) for at in self.chunks_s),
            prompt_tokens=int(usage.get("prompt_tokens") or self.prompt_tokens),
            output_tokens=self._output_tokens() or 0,
            cached_tokens=int(details.get("cached_tokens") or 0),
            error=self.error or ("" if self.done else CUT),
            counted=self.counted,
        )

    def end(self, *, whole: bool) -> None:
        """Judge the answer, after which nothing comes.

        Args:
            whole: the server said that this was all: by `[DONE]` or by a reason to finish.
        """
        self.done = True
        if self.error:
            return
        tokens = self._output_tokens()
        if not whole:
            self.error = f"the stream ended after {len(self.chunks_s)} chunks, before the answer did"
        elif tokens is None:
            self.error = "the stream told no usage"
        elif tokens != self.output_tokens:
            self.error = f"the answer has {tokens} tokens; {self.output_tokens} were asked for"
        elif not self.chunks_s:
            if self.finished_s is None:
                self.error = "no chunk had a token"
            else:  # tokens that are no text, as random weights choose them: whoever waits sees nothing before the end
                self.chunks_s.append(self.finished_s)

    def _output_tokens(self) -> int | None:
        """By the usage; by the request where the server only says that its length ended the answer."""
        if self.usage and isinstance(self.usage.get("completion_tokens"), int):
            return int(self.usage["completion_tokens"])
        return self.output_tokens if self.finish == "length" else None


async def ask(address: Address, body: bytes, answer: Answer, clock: Callable[[], float]) -> None:
    """Send a request and follow its answer to the end; what goes wrong stands in `answer.error`.

    Cancelling closes the connection, by which the server learns that nobody waits any more.
    """
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    exchange = _Exchange(answer, clock, ended)
    answer.sent_s = clock()
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: exchange,
            address.host,
            address.port,
            ssl=_certificates() if address.tls else None,
        )
        transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (address.head, len(body), body))
        await ended
    except OSError as error:
        answer.error = f"{type(error).__name__}: {error.strerror or error}"
        answer.end(whole=False)
    finally:
        exchange.close()


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: that takes tens of milliseconds."""
    return ssl.create_default_context()


class _Exchange(asyncio.Protocol):
    """The bytes of one answer: all that one read gave has come at one time."""

    def __init__(self, answer: Answer, clock: Callable[[], float], ended: "asyncio.Future[None]") -> None:
        self._answer, self._clock, self._ended = answer, clock, ended
        self._response, self._events = ResponseReader(), EventReader()
        self._refusal = b""
        self._over = False
        self._left = False
        """We closed the connection: nothing is told of the answer by that."""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        now = self._clock()
        if self._answer.done:
            return
        try:
            body = self._response.feed(data)
            self._answer.status = self._response.status
            if self._response.status != 200 or "text/event-stream" not in self._response.content_type:
                self._refusal = (self._refusal + body)[:REFUSAL_BYTES]
            else:
                for event in self._events.feed(body):
                    self._take(event, now)
        except ValueError as error:
            self._answer.error = str(error)
        if self._answer.error or self._over or self._response.whole:
            self._end(now)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._left:
            return
        if exc is not None and not self._answer.error and not self._over:
            self._answer.error = f"{type(exc).__name__}: {exc}"
        self._end(self._clock())

    def close(self) -> None:
        self._left = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def _end(self, now: float) -> None:
        if not self._answer.done:
            if self._response.status and not self._answer.error and self._response.status != 200:
                self._answer.error = f"HTTP {self._response.status}: {_message(self._refusal)}"
            elif self._refusal and not self._answer.error:
                self._answer.error = (
                    f"no stream but {self._response.content_type or 'something'}: {_message(self._refusal)}"
                )
            elif not self._answer.error:
                for event in self._events.end():
                    self._take(event, now)
            self._answer.end(whole=self._over or bool(self._answer.finish))
        if not self._ended.done():
            self._ended.set_result(None)

    def _take(self, event: str, now: float) -> None:
        """What one event tells.

        Raises:
            ValueError: it is no chunk of an answer.
        """
        if event == "[DONE]":
            self._over = True
            return
        chunk = json.loads(event)
        if not isinstance(chunk, dict):
            raise ValueError(f"the stream has an event that is no object: {event:.60}")
        if chunk.get("error"):
            self._answer.error = f"{TOLD_ERROR}: {_message(event.encode())}"
            return
        self._answer.usage = chunk.get("usage") or self._answer.usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            texts = (choice.get("text"), delta.get("content"), delta.get("reasoning_content"), choice.get("token_ids"))
            if any(texts):  # a chunk with a role alone, or with an empty text, is no token yet
                self._answer.chunks_s.append(now)
            if choice.get("finish_reason"):
                self._answer.finish, self._answer.finished_s = choice["finish_reason"], now


def _message(body: bytes) -> str:
    """The sentence in an error's body, in one of the forms that servers give it; else its beginning."""
    text = body.decode("utf-8", errors="replace")
    try:
        told = json.loads(text)
        told = told.get("error") or told.get("detail") or told.get("message") or told
        told = told.get("message") or told if isinstance(told, dict) else told
    except (ValueError, AttributeError):
        told = text
    return " ".join(str(told).split())[:200] or "nothing more was said"
