"""A real HTTP server that streams as a script tells it, and notes what it was asked and when it wrote what."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KIND = {"id": "cmpl-1", "object": "text_completion"}


@dataclass(kw_only=True)
class Seen:
    """A request as the server saw it; times are time.monotonic()."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    came_s: float
    wrote_s: list[float] = field(default_factory=list)
    """When each chunk with a token was written."""
    left: bool = False
    """The client closed the connection before the answer was whole."""


@dataclass(kw_only=True)
class Reply:
    """What a script writes to one request."""

    seen: Seen
    writer: asyncio.StreamWriter

    @property
    def tokens(self) -> int:
        return int(self.seen.body["max_tokens"])

    async def head(self, status: str = "200 OK", kind: str = "text/event-stream", *, chunked: bool = True) -> None:
        self._chunked = chunked
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close"]
        lines += ["Transfer-Encoding: chunked"] if chunked else []
        await self._write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())

    async def raw(self, text: str) -> None:
        part = text.encode()
        await self._write(b"%x\r\n%s\r\n" % (len(part), part) if self._chunked else part)

    async def event(self, chunk: dict[str, Any] | str) -> None:
        await self.raw(f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n")

    async def token(self, text: str = " word", finish: str | None = None) -> None:
        if text:
            self.seen.wrote_s.append(time.monotonic())
        await self.event({**KIND, "choices": [{"index": 0, "text": text, "finish_reason": finish}]})

    async def usage(self, tokens: int, **details: Any) -> None:
        prompt = self.seen.body["prompt"]
        count = len(prompt) if isinstance(prompt, list) else 2 * len(prompt.split()) + 3
        usage = {"prompt_tokens": count, "completion_tokens": tokens, **details}
        await self.event({**KIND, "choices": [], "usage": usage})

    async def end(self) -> None:
        await self.event("[DONE]")
        if self._chunked:
            await self._write(b"0\r\n\r\n")

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Script = Callable[[Reply], Awaitable[None]]


def steady(ttft_s: float, itl_s: float) -> Script:
    """Answers with a token a chunk: the first after `ttft_s`, the others `itl_s` apart."""

    async def script(reply: Reply) -> None:
        await reply.head()
        await asyncio.sleep(ttft_s)
        for place in range(reply.tokens):
            if place:
                await asyncio.sleep(itl_s)
            await reply.token(finish="length" if place == reply.tokens - 1 else None)
        await reply.usage(reply.tokens)
        await reply.end()

    return script


@dataclass(kw_only=True)
class Mock:
    """The server: where it listens, and what it has seen."""

    script: Script
    requests: list[Seen] = field(default_factory=list)
    port: int = 0
    open: int = 0
    """Connections."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        first = (await reader.readline()).decode()
        if not first:
            writer.close()
            return
        headers: dict[str, str] = {}
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))) or b"{}")
        path = first.split()[1]
        seen = Seen(number=len(self.requests), path=path, headers=headers, body=body, came_s=time.monotonic())
        if path == "/v1/models":
            models = json.dumps({"data": [{"id": "mock"}]}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(models), models)
            )
            writer.close()
            return
        self.requests.append(seen)
        self.open += 1
        script = asyncio.ensure_future(self.script(Reply(seen=seen, writer=writer)))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({script, gone}, return_when=asyncio.FIRST_COMPLETED)
            seen.left = not script.done()
            script.cancel()
            await asyncio.gather(script, return_exceptions=True)
        finally:
            gone.cancel()
            self.open -= 1
            writer.close()


@contextmanager
def serving(script: Script) -> Iterator[Mock]:
    """The server, on a thread of its own."""
    mock = Mock(script=script)
    loop = asyncio.new_event_loop()
    listening = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(mock.take, "127.0.0.1", 0)
        mock.port = server.sockets[0].getsockname()[1]
        listening.set()
        async with server:
            await asyncio.Event().wait()

    def run() -> None:
        asyncio.set_event_loop(loop)
        task = loop.create_task(serve())
        loop.run_forever()
        others = [other for other in asyncio.all_tasks(loop) if other is not task]
        for waiting in (task, *others):
            waiting.cancel()
        loop.run_until_complete(asyncio.gather(task, *others, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert listening.wait(10)
    try:
        yield mock
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
