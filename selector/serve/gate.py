"""Gate: what each request passes on its way to the engine: it is refused while there is none, or the server stops."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from calibration.streams import Ability
from selector.serve.keeper import Keeper
from selector.serve.upstream import Ask, Piece, Unavailable, Upstream

STOPPING_S = 10.0
"""When it is worth asking again after a server that is being stopped: its successor, if there is one, must load."""


class Gate:
    """The upstream that the front asks.

    Args:
        upstream: the engine, which its keeper starts.
    """

    def __init__(self, upstream: Upstream, keeper: Keeper) -> None:
        self._upstream, self._keeper = upstream, keeper
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._upstream.abilities

    @property
    def context_tokens(self) -> int:
        return self._upstream.context_tokens

    @property
    def ready(self) -> bool:
        return not self._closed and self._keeper.ready

    def unavailable(self) -> Unavailable:
        """Why it is not ready, and when it is worth asking again."""
        if self._closed:
            return Unavailable("the server is being stopped", retry_after_s=STOPPING_S)
        return self._keeper.unavailable()

    @property
    def running(self) -> int:
        """Requests that were let in and have not ended."""
        return self._running

    def close(self) -> None:
        """Let no new request in."""
        self._closed = True

    async def wait_until_idle(self) -> None:
        """Return when no request runs."""
        await self._idle.wait()

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece, None]:
        """See Upstream.answer."""
        if not self.ready:
            raise self.unavailable()
        self._running += 1
        self._idle.clear()
        try:
            with self._keeper.watch.following(ask) as came:
                async with aclosing(self._upstream.answer(ask)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        came(piece)
                        yield piece
        except Unavailable as error:
            if hung := self._keeper.hung:
                raise hung from error
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
