"""OwnServerUpstream: an engine's own server that we start, watch, ask over HTTP and stop."""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2

from calibration.engine.server import OwnServer, ServerPlace
from calibration.engine.streams import Ability
from calibration.supervision.workers import worker_variables
from selector.serve.keep.keeper import Refusing
from selector.serve.own_server.dialect import call, with_limit
from selector.serve.own_server.exchange import count_tokens, exchange
from selector.serve.own_server.program import Program
from selector.serve.own_server.transport import ServerTransport
from selector.serve.upstream import Ask, Piece, Refused, Unavailable

LOAD_S = 900.0
"""A load that takes longer is given up, as in a calibration (Limits.load_s)."""
POLL_S = 0.05
PROBE_S = 5.0
"""For one look whether it is ready: a server may take a connection long before it answers."""
CONNECT_S = 30.0
"""A busy server takes connections late; one that is gone refuses them at once."""


class OwnServerUpstream:
    """An upstream and a serving: see upstream.Upstream and keeper.Serving.

    Args:
        describe: `Backend.own_server` for a variant and a deployment.
        name: of the engine, for messages.
        place: a port and a key are chosen at each start.
        python: the backend's interpreter.
        log: file that takes everything the program prints.
        variables: environment variables of the backend's programs, beside our own.
        vocab_size: ids of a prompt are below it.
        takes_chats: whether the model has a chat template; llama-server would take another model's where it has none.
        memory_limit_bytes: above this it is killed.
        load_s: how long it may take until it is ready.
    """

    batching = "continuous"
    """All of these servers add a request to those that run; see calibration.engine.streams.Streams.batching."""

    def __init__(
        self,
        describe: Callable[[ServerPlace], OwnServer],
        *,
        name: str,
        place: ServerPlace,
        python: Path,
        log: Path,
        vocab_size: int,
        takes_chats: bool = True,
        variables: Mapping[str, str] | None = None,
        memory_limit_bytes: int | None = None,
        load_s: float = LOAD_S,
    ) -> None:
        self._describe, self._name, self._place, self._vocab_size = describe, name, place, vocab_size
        self._python, self._log, self._variables, self._load_s = python, log, dict(variables or {}), load_s
        self._memory_limit_bytes = memory_limit_bytes
        self._run: _Run | None = None
        self.takes_chats = takes_chats
        self.abilities = frozenset(ability for ability in Ability if ability.value in describe(place).parameters)
        self.ended = asyncio.Event()
        """See Serving.ended."""
        self.ended.set()

    @property
    def context_tokens(self) -> int:
        return self._place.context_tokens

    @property
    def ready(self) -> bool:
        return self._run is not None and self._run.ready

    @property
    def ending(self) -> str:
        """See Serving.ending."""
        return "it was not started" if self._run is None else self._run.ending

    @property
    def pid(self) -> int:
        """Of the program that was started last."""
        assert self._run is not None
        return self._run.program.pid

    @property
    def described(self) -> tuple[OwnServer, ServerPlace]:
        """The server that was started last, and where it listens."""
        assert self._run is not None
        return self._run.server, self._run.place

    async def start(self) -> None:
        """See Serving.start."""
        place = replace(self._place, port=_free_port(self._place.host), key=secrets.token_hex())
        self._run = run = self._launch(place, self._describe(place))
        try:
            await run.until_ready(self._load_s)
        except BaseException:
            await run.stop(0.0)
            raise

    async def stop(self, grace_s: float) -> None:
        """See Serving.stop."""
        if self._run is not None:
            await self._run.stop(grace_s)

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """See Upstream.answer."""
        run = self._run
        if run is None or not run.ready:
            raise Unavailable(f"{self._name} does not run")
        if ask.messages is not None and not self.takes_chats:
            raise Refused(
                "this model has no chat template; ask /v1/completions with a `prompt`",
                parameter="messages",
                code="no_chat_template",
            )
        request = call(ask, run.server, self._place, vocab_size=self._vocab_size, name=self._name)
        with run.busy():
            if isinstance(ask.prompt, str) and ask.max_tokens is None and run.server.count_path:
                body = {"model": self._place.served_name, "prompt": ask.prompt}
                count = await count_tokens(run.client, run.server.count_path, body, self._name)
                ask = with_limit(ask, count, self._place.context_tokens)
                request = call(ask, run.server, self._place, vocab_size=self._vocab_size, name=self._name)
            async with contextlib.aclosing(exchange(run.client, request, self._name)) as pieces:
                async for piece in pieces:
                    yield piece

    def _launch(self, place: ServerPlace, server: OwnServer) -> "_Run":
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def on_end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        own = {"PYTHONUNBUFFERED": "1", **worker_variables(place.threads), **self._variables, **server.variables}
        try:
            program = Program(
                [str(self._python), *server.argv],
                variables={**os.environ, **own},
                log=self._log,
                cpus=place.cpus,
                on_end=on_end,
                memory_limit_bytes=self._memory_limit_bytes,
            )
        except OSError as error:
            raise Refusing(f"{self._python} cannot be started: {error.strerror}") from error
        self.ended = ended
        return _Run(server=server, place=place, program=program, client=_client(place), ended=ended)


@dataclass(kw_only=True)
class _Run:
    """A server from its start until nothing of it is left."""

    server: OwnServer
    place: ServerPlace
    program: Program
    client: httpx2.AsyncClient
    ended: asyncio.Event
    requests: int = 0
    takes_requests: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def ready(self) -> bool:
        return self.takes_requests and not self.ended.is_set()

    @property
    def ending(self) -> str:
        return f"it {self.program.ending}\n{self.program.log_tail()}".rstrip()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While a request runs."""
        self.requests += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self.idle.set()

    async def until_ready(self, load_s: float) -> None:
        """Wait until it answers.

        Raises:
            Unavailable: it ended, or did not answer within `load_s`.
        """
        end = time.monotonic() + load_s
        while not self.ended.is_set():
            with contextlib.suppress(httpx2.TransportError):
                answer = await self.client.get(self.server.ready_path, timeout=PROBE_S)
                if answer.status_code == 200:
                    self.takes_requests = True
                    return
            if time.monotonic() > end:
                raise Unavailable(f"it was not ready within {load_s:g} s\n{self.program.log_tail()}".rstrip())
            await _set_within(self.ended, POLL_S)
        raise Unavailable(self.ending)

    async def stop(self, grace_s: float) -> None:
        """See Serving.stop. Requests that run are waited for before the program is told; then they are cut."""
        self.takes_requests = False
        end = time.monotonic() + grace_s
        try:
            if not self.ended.is_set() and grace_s > 0:
                await _set_within(self.idle, grace_s)
                self.program.terminate()
                await _set_within(self.ended, max(0.0, end - time.monotonic()))
        finally:
            self.program.kill()
            await self.ended.wait()
            await self.client.aclose()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, at most so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def _client(place: ServerPlace) -> httpx2.AsyncClient:
    """A client that opens a connection for each request.

    For a connection that is kept, llama-server holds a thread for 5 s while other requests wait for one; and it closes
    the connection just when the next request may be on its way.
    """
    return httpx2.AsyncClient(
        base_url=f"http://{place.host}:{place.port}",
        headers={"Authorization": f"Bearer {place.key}", "Accept-Encoding": "identity", "Connection": "close"},
        timeout=httpx2.Timeout(None, connect=CONNECT_S),
        transport=ServerTransport(),
        trust_env=False,
    )


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
