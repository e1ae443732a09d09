"""Relay: the engine that answers, and how another one takes its place without the loss of a request."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from selector.serve.keep.gate import HOLD_S, Gate, Lane
from selector.serve.keep.keeper import AT_ONCE_S, Keeper
from selector.serve.upstream import Unavailable, Upstream

DRAIN_S = HOLD_S / 2
"""How long running requests are waited for where the engine must end before the next one begins: requests that come
meanwhile wait as well, and the other half of their time is for the load."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """An engine, and who keeps it running."""

    upstream: Upstream
    keeper: Keeper


class NotDrained(Exception):
    """The requests that ran did not end in time; the engine goes on."""


class Relay:
    """Keeps one engine running, or two while the one takes the other's place. It is made on the event loop.

    Args:
        first: the engine that answers at first.
        drain_s: how long running requests are waited for where an engine must end before the next one begins.
    """

    def __init__(self, first: Kept, *, drain_s: float = DRAIN_S) -> None:
        self.current, self._drain_s = first, drain_s
        self.gate = Gate(first.upstream, first.keeper)
        """What requests come through."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises NotServed once the engine that answers cannot be kept."""
        self._keeping: dict[Kept, asyncio.Task[None]] = {}
        self._loading: set[Kept] = set()
        self._stopping: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Load the first engine, and keep it."""
        self._keep(self.current)

    async def switch_beside(self, new: Kept, switched: Callable[[], None], *, unfit: Callable[[], str]) -> None:
        """Load an engine beside the one that answers; then requests go to it, and the other one ends with its last.

        Cancelled, it leaves what runs to `stop`.

        Args:
            switched: is called at the moment from which on the new one answers.
            unfit: is asked, once it is loaded, why it cannot answer what is asked; empty: it can.

        Raises:
            Unavailable: it did not come up, or cannot answer; the other one answers as before.
        """
        await self._load(new, unfit)
        old = self.current
        lane = self._turn_to(new, switched)
        await lane.wait_until_idle()
        await self._end(old)

    async def switch_after(self, new: Kept, switched: Callable[[], None], *, unfit: Callable[[], str]) -> None:
        """The same where memory does not hold both: new requests wait, those that run end, then the engines change.

        Raises:
            NotDrained: requests ran for too long: nothing was done.
            Unavailable: the new one did not come up, or cannot answer; the other one was loaded again.
        """
        old = self.current
        with self.gate.holding():
            try:
                async with asyncio.timeout(self._drain_s):
                    await self.gate.wait_until_idle()
            except TimeoutError as error:
                raise NotDrained from error
            await self._end(old)
            try:
                await self._load(new, unfit)
            except Exception:
                await self._load_again(old)
                raise
            self._turn_to(new, switched)

    async def stop(self, *, at_once: bool) -> None:
        """End all engines; nothing of them is left."""
        kept = {self.current, *self._keeping, *self._loading}
        await asyncio.gather(*(self._stop(one, at_once=at_once) for one in kept))
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=AT_ONCE_S if at_once else None)
        if self.lost.done():
            self.lost.exception()  # it was told already, or something else came first

    def _turn_to(self, new: Kept, switched: Callable[[], None]) -> Lane:
        """From now on requests go there; the lane of those that went to the other one."""
        lane = self.gate.turn_to(new.upstream, new.keeper)
        self.current = new
        self._keep(new)
        switched()
        return lane

    async def _load(self, new: Kept, unfit: Callable[[], str]) -> None:
        """Load it; where this is cancelled, `stop` ends what may be left of it."""
        self._loading = {new}
        try:
            await new.keeper.load()
            if why := unfit():
                await self._end(new)
                raise Unavailable(why)
        except Unavailable:
            self._loading = set()
            raise
        self._loading = set()

    async def _load_again(self, old: Kept) -> None:
        """Bring back the engine that was ended; where that fails, its keeper goes on trying as after a crash."""
        old.keeper.restarts += 1
        with contextlib.suppress(Unavailable):
            await old.keeper.load()
        self._keep(old)

    def _keep(self, kept: Kept) -> None:
        task = asyncio.get_running_loop().create_task(kept.keeper.keep())
        task.add_done_callback(lambda ended: self._on_end(kept, ended))
        self._keeping[kept] = task

    def _on_end(self, kept: Kept, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and kept is self.current and not self.lost.done():
            self.lost.set_exception(error)

    async def _end(self, kept: Kept) -> None:
        """Stop it; where this is cancelled meanwhile, it is stopped nevertheless."""
        stopping = asyncio.get_running_loop().create_task(self._stop(kept, at_once=False))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        await asyncio.shield(stopping)

    async def _stop(self, kept: Kept, *, at_once: bool) -> None:
        if keeping := self._keeping.pop(kept, None):
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await kept.keeper.stop(at_once=at_once)
