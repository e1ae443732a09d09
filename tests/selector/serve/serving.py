"""The app behind a real server: `with served(engine, text) as there: there.url`."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import openai
import uvicorn
from starlette.applications import Starlette

from selector.serve.api.answers import number_token
from selector.serve.api.app import Settings, app
from selector.serve.language.text import Text
from selector.serve.observers.observer import Observer
from selector.serve.token_streams.upstream import TokenUpstream
from tests.selector.serve.scripted import Scripted

CONTEXT_TOKENS = 512
VOCAB_SIZE = 400
SETTINGS = Settings(names=("tiny", "small"))


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def client(self, key: str = "none") -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30) as client:
            yield client

    @contextlib.contextmanager
    def connection(self, receive_bytes: int | None = None) -> Iterator[socket.socket]:
        """A raw one, with a small buffer where the client is to be slow."""
        with socket.socket() as raw:
            if receive_bytes:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            raw.settimeout(30)
            raw.connect(("127.0.0.1", self.port))
            yield raw

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> "Told":
        """Send a request and read the whole answer."""
        raw_body = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.connection() as raw:
            raw.sendall(request(method, path, raw_body, {"Connection": "close", **(headers or {})}))
            return told(read_all(raw))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer of HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> Mapping[str, Any]:
        """The object that OpenAI's API tells an error by."""
        content = json.loads(self.body)
        assert list(content) == ["error"] and list(content["error"]) == ["message", "type", "param", "code"]
        return dict(content["error"])


@contextlib.contextmanager
def served(
    engine: Scripted,
    text: Text | None = None,
    *,
    settings: Settings = SETTINGS,
    observer: Observer | None = None,
    metrics: Callable[[], tuple[bytes, str]] | None = None,
    context_tokens: int = CONTEXT_TOKENS,
    send_bytes: int | None = None,
) -> Iterator[There]:
    """A server on a free port, in a thread.

    Args:
        send_bytes: of the server's buffers, where they are to be full soon.
    """
    upstream = TokenUpstream(
        engine, text, context_tokens=context_tokens, vocab_size=VOCAB_SIZE, engine_name="scripted:one"
    )
    name_token = text.vocabulary.token if text else number_token
    with running(
        app(upstream, settings, observer=observer, metrics=metrics, name_token=name_token), send_bytes
    ) as there:
        yield there


@contextlib.contextmanager
def running(application: Starlette, send_bytes: int | None = None) -> Iterator[There]:
    """The server of an application."""
    with socket.socket() as listening:
        if send_bytes:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield There(port=listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


def with_keys(*keys: str) -> Settings:
    return replace(SETTINGS, keys=keys)


def until(happened: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for it."""
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.002)


def request(method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """As it goes over the wire."""
    fields = {"Host": "tests", "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def read_all(raw: socket.socket) -> bytes:
    """Until the server closes."""
    parts = []
    while part := raw.recv(65536):
        parts.append(part)
    return b"".join(parts)


def told(raw: bytes) -> Told:
    """An answer from its bytes; chunks are joined."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(_unchunked(body))
    return Told(status=int(first.split()[1]), headers=headers, body=body)


def events(body: bytes) -> list[str]:
    """The data of each event of a stream."""
    return [block.removeprefix("data: ") for block in body.decode().split("\n\n") if block.startswith("data: ")]


def _unchunked(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        yield body[:length]
        body = body[length + 2 :]
