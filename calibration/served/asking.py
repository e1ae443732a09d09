"""Asks a server several things at once, over HTTP, and gives the ids of the tokens that it answers."""

import http.client
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from calibration.served.place import AtOnce, Server, Untold, Wanted

BEGUN = 2
"""Chunks of the answer that runs on, after which the others are sent: it decodes by then."""


def ask_at_once(server: Server, asked: AtOnce, limit_s: float) -> Sequence[tuple[int, ...]] | Untold:
    """See AskAtOnce.

    The answers come whole, since some servers leave tokens out of their streams: those whose text ends within a
    character. Only the one that runs on is a stream, so that it shows when it decodes.
    """
    end = time.monotonic() + limit_s
    with _asked(server, limit_s) as asks:
        running = [asks.stream(asked.running)] if asked.running else []
        for stream in running:
            stream.begun.wait(limit_s)
        first = [asks.whole(wanted) for wanted in asked.first]
        if asked.late:
            asks.wait_for_one(end)
        others = [*first, *map(asks.whole, asked.late)]
        for _ in others[bool(asked.late) :]:
            asks.wait_for_one(end)
        for number, exchange in enumerate(others, start=1):
            if untold := exchange.untold():
                return Untold(reason=f"request {number} of {len(others)}: {untold.reason}", wrong=untold.wrong)
        return [tuple(exchange.tokens) for exchange in (*running, *others)]


class _Exchange:
    """One request, on a thread of its own; what came of it is read when it has ended."""

    def __init__(
        self, server: Server, wanted: Wanted, limit_s: float, ended: "queue.SimpleQueue[None]", *, stream: bool
    ) -> None:
        self.tokens: list[int] = []
        self.begun = threading.Event()
        """Set when it decodes, or has ended."""
        self._wanted, self._ended = wanted, ended
        self._finish, self._counted, self._trouble = "", 0, "no answer within the time"
        at = urlsplit(server.url)
        self._connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=limit_s)
        self._socket: socket.socket | None = None
        self._is_cut = threading.Event()
        body = {
            "model": server.served_name,
            "prompt": list(wanted.prompt),
            "max_tokens": wanted.new_tokens,
            "temperature": 0,
            "return_token_ids": True,
            # Where it forces a length, llama-server forbids the tokens that end answers: it would choose others.
            **({"stream": True, "ignore_eos": True} if stream else {}),
        }
        headers = {"Content-Type": "application/json", "Connection": "close"}
        headers |= {"Authorization": f"Bearer {server.key}"} if server.key else {}
        self._thread = threading.Thread(
            target=self._run, args=(json.dumps(body), headers, stream), name="autobackend-check", daemon=True
        )
        self._thread.start()

    def untold(self) -> Untold | None:
        """Why its tokens say nothing; None where they do."""
        asked, tokens = self._wanted.new_tokens, len(self.tokens)
        if self._trouble:
            return Untold(reason=self._trouble)
        if self._counted > asked or (self._counted < asked and self._finish != "stop"):
            return Untold(reason=f"asked for {asked} tokens; got {self._counted}", wrong=True)
        # Some servers count a token that ends the answer, and do not tell it.
        if tokens < self._counted - (self._finish == "stop"):
            return Untold(reason=f"the server tells the ids of {tokens} of {self._counted} tokens")
        return None

    def cut(self) -> None:
        """End it now; the server learns by that that nobody waits any more."""
        self._is_cut.set()
        with suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self, body: str, headers: Mapping[str, str], stream: bool) -> None:
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            self._socket.settimeout(None)  # who asked cuts it off
            if self._is_cut.is_set():
                return
            self._connection.request("POST", "/v1/completions", body, headers)
            response = self._connection.getresponse()
            if response.status != http.client.OK:
                self._trouble = f"HTTP {response.status}: {_sentence(response.read())}"
            elif stream:
                self._follow(response)
            else:
                self._read(json.loads(response.read()))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            self._trouble = f"{type(error).__name__}: {error}"
        finally:
            self._connection.close()
            self.begun.set()
            self._ended.put(None)

    def _follow(self, response: http.client.HTTPResponse) -> None:
        """Take the tokens of a stream as they come."""
        chunks = 0
        for line in response:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[len(b"data: ") :]).get("choices") or ():
                    self.tokens += choice.get("token_ids") or ()
                chunks += 1
                if chunks == BEGUN:
                    self.begun.set()

    def _read(self, answer: Mapping[str, Any]) -> None:
        """Take the tokens of a whole answer."""
        [choice] = answer["choices"]
        self.tokens += choice.get("token_ids") or ()
        self._finish = choice["finish_reason"]
        self._counted = int(answer["usage"]["completion_tokens"])
        self._trouble = ""


class _Asks:
    """The requests to one server that were begun so far."""

    def __init__(self, server: Server, limit_s: float) -> None:
        self._server, self._limit_s = server, limit_s
        self._exchanges = list[_Exchange]()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def stream(self, wanted: Wanted) -> _Exchange:
        """Begin one that nobody waits for."""
        return self._begin(wanted, queue.SimpleQueue(), stream=True)

    def whole(self, wanted: Wanted) -> _Exchange:
        """Begin one that `wait_for_one` waits for."""
        return self._begin(wanted, self._ended, stream=False)

    def wait_for_one(self, end: float) -> None:
        """Wait until one more has ended, at most to this moment of the monotonic clock."""
        with suppress(queue.Empty):
            self._ended.get(timeout=max(0.0, end - time.monotonic()))

    def cut(self) -> None:
        """End all of them."""
        for exchange in self._exchanges:
            exchange.cut()

    def _begin(self, wanted: Wanted, ended: "queue.SimpleQueue[None]", *, stream: bool) -> _Exchange:
        exchange = _Exchange(self._server, wanted, self._limit_s, ended, stream=stream)
        self._exchanges.append(exchange)
        return exchange


@contextmanager
def _asked(server: Server, limit_s: float) -> Iterator[_Asks]:
    """Requests of which none runs any more afterwards."""
    asks = _Asks(server, limit_s)
    try:
        yield asks
    finally:
        asks.cut()


def _sentence(body: bytes) -> str:
    """What an error's body says."""
    text = body.decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:200]
