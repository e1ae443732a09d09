"""Gate: what each request passes on its way to the engine: it is refused while there is none, or the server stops."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from calibration.engine.streams import Ability
from selector.serve.keep.keeper import Keeper
from selector.serve.upstream import Ask, Piece, Unavailable, Upstream

STOPPING_S = 10.0
"""When it is worth asking again after a server that is being stopped: its successor, if there is one, must load."""
HOLD_S = 30.0
"""How long a request may wait while one engine ends and another one is loaded: half of what proxies wait for the first
byte of an answer (nginx's proxy_read_timeout, 60 s)."""


class Lane:
    """Where requests go: an engine, its keeper, and how many of them have not ended."""

    def __init__(self, upstream: Upstream, keeper: Keeper) -> None:
        self.upstream, self.keeper = upstream, keeper
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While a request runs."""
        self.running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Return when no request runs."""
        await self._idle.wait()


class Gate:
    """The upstream that the front asks.

    Args:
        upstream: the engine, which its keeper starts.
        hold_s: how long a request is held at most.
    """

    def __init__(self, upstream: Upstream, keeper: Keeper, *, hold_s: float = HOLD_S) -> None:
        self._lane = Lane(upstream, keeper)
        self._hold_s = hold_s
        self._left: set[Lane] = set()
        """Lanes that no new request goes to, and some still run in."""
        self._flows = asyncio.Event()
        """Cleared while requests are held."""
        self._flows.set()
        self._closed = False
        self.asked_for: frozenset[Ability] = frozenset()
        """What requests have asked for beside greedy tokens."""

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._lane.upstream.abilities

    @property
    def context_tokens(self) -> int:
        return self._lane.upstream.context_tokens

    @property
    def ready(self) -> bool:
        """Also while requests are held, since they will be answered."""
        return not self._closed and (self._lane.keeper.ready or not self._flows.is_set())

    def unavailable(self) -> Unavailable:
        """Why it is not ready, and when it is worth asking again."""
        if self._closed:
            return Unavailable("the server is being stopped", retry_after_s=STOPPING_S)
        return self._lane.keeper.unavailable()

    @property
    def running(self) -> int:
        """Requests that were let in and have not ended."""
        return self._lane.running + sum(lane.running for lane in self._left)

    def close(self) -> None:
        """Let no new request in, nor those that wait."""
        self._closed = True
        self._flows.set()

    def turn_to(self, upstream: Upstream, keeper: Keeper) -> Lane:
        """Send requests to another engine from now on; those that run go on where they are, in the lane returned."""
        self._left = {lane for lane in (*self._left, self._lane) if lane.running}
        before, self._lane = self._lane, Lane(upstream, keeper)
        return before

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Meanwhile new requests wait."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    async def wait_until_idle(self) -> None:
        """Return when no request runs."""
        while self.running:
            await asyncio.gather(*(lane.wait_until_idle() for lane in (self._lane, *self._left)))

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """See Upstream.answer."""
        if not self._flows.is_set():
            await self._wait()
        lane = self._lane
        if self._closed or not lane.keeper.ready:
            raise self.unavailable()
        self.asked_for |= ask.needs()
        try:
            with lane.busy(), lane.keeper.watch.following(ask) as came:
                async with aclosing(lane.upstream.answer(ask)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        came(piece)
                        yield piece
        except Unavailable as error:
            if hung := lane.keeper.hung:
                raise hung from error
            raise

    async def _wait(self) -> None:
        """Until requests flow again.

        Raises:
            Unavailable: they did not in time.
        """
        try:
            async with asyncio.timeout(self._hold_s):
                await self._flows.wait()
        except TimeoutError as error:
            raise Unavailable("another engine is being loaded") from error
