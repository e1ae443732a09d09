"""Keeper: starts the engine that serves, watches it, starts it again after a crash, or says that it cannot be kept."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from calibration.errors import NotServed
from selector.serve.keep.watch import Watch
from selector.serve.upstream import Unavailable

GRACE_S = 5.0
"""How long an engine that is told to end may take before it is killed; its requests have ended by then."""
AT_ONCE_S = 1.0
"""The same where it is to end at once."""
LOG_LINES = 12
"""Of an engine that ended, so many of the last lines that it printed are shown."""
HUNG = "engine_hung"
"""The code of the error while there is no engine because the last one hung."""


class Serving(Protocol):
    """An engine that takes requests while it runs: a worker of ours, or the server that an engine brings.

    It may be started again after it ended. All of it is called on the event loop.
    """

    @property
    def ready(self) -> bool:
        """Whether it takes requests now."""

    @property
    def ended(self) -> asyncio.Event:
        """Set while no engine runs; each start has an event of its own."""

    @property
    def ending(self) -> str:
        """How the last engine ended; more lines may follow with the end of what it printed."""

    async def start(self) -> None:
        """Start it, and return when it takes requests. Where this is cancelled, nothing of it is left.

        Raises:
            Unavailable: it did not come up, and why; nothing of it is left. Refusing where another try would end alike.
        """

    async def stop(self, grace_s: float) -> None:
        """End it, if it runs: its requests may take so long. Nothing of it is left. Cancelled, it is killed at once."""


class Refusing(Unavailable):
    """An engine did not come up, and would not another time: it cannot load the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How an engine that ended is started again."""

    first_s: float = 1.0
    """The pause before the first restart; each further one is twice as long."""
    most_s: float = 60.0
    steady_s: float = 300.0
    """After an engine that has run so long, the pause is the first again."""
    loads: int = 3
    """So many loads in a row may fail; then it is given up."""


class Keeper:
    """Keeps one engine running.

    Args:
        label: the candidate's.
        say: is told, in a sentence, that the engine ended.
        on_ready: is called after each load that succeeded, with its seconds.
        watch: follows what the engine gives; one that hangs is treated like one that ended.
    """

    def __init__(
        self,
        serving: Serving,
        *,
        label: str,
        say: Callable[[str], None],
        on_ready: Callable[[float], None] = lambda _seconds: None,
        watch: Watch | None = None,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._serving, self._label, self._patience = serving, label, patience
        self._say, self._on_ready, self._clock = say, on_ready, clock
        self.watch = watch or Watch()
        self._hung = ""
        """Until it is loaded again: how it showed that the engine hung."""
        self._load_s = 0.0
        """What the last load that succeeded took."""
        self._why_not = f"{label} is being loaded"
        self._again_at = 0.0
        """When, on the clock, the next load begins."""
        self.restarts = 0

    @property
    def ready(self) -> bool:
        return self._serving.ready

    @property
    def load_s(self) -> float:
        """Of the last load that succeeded."""
        return self._load_s

    def unavailable(self) -> Unavailable:
        """Why there is no engine now, and when it is worth asking again."""
        left_s = max(0.0, self._again_at - self._clock()) + self._load_s
        return Unavailable(self._why_not, retry_after_s=left_s or None, code=HUNG if self._hung else None)

    @property
    def hung(self) -> Unavailable | None:
        """What the requests are told that a hanging engine was answering; None: it does not hang."""
        return Unavailable(f"{self._label} was ended: {self._hung}", code=HUNG) if self._hung else None

    async def load(self) -> None:
        """Load the engine once; `keep` goes on with it.

        Raises:
            Unavailable: it did not come up, and nothing of it is left, as where this is cancelled.
        """
        began = self._clock()
        await self._serving.start()
        self._load_s = self._clock() - began

    async def keep(self) -> None:
        """Load the engine, and again whenever it ends, for ever. The caller cancels this, and then calls `stop`.

        One that was loaded already is kept from there on.

        Raises:
            NotServed: it refuses the model, or dies at every load.
        """
        failed_loads, pause_s = 0, self._patience.first_s
        while True:
            try:
                if not self._serving.ready:
                    await self.load()
            except Unavailable as error:
                failed_loads += 1
                if isinstance(error, Refusing) or failed_loads >= self._patience.loads:
                    raise self._lost(error, failed_loads) from error
                ending, self._hung = error.message, ""
            else:
                failed_loads, self._hung = 0, ""
                self._on_ready(self._load_s)
                up_at = self._clock()
                ending = await self._end()
                await self._serving.stop(0.0)
                if self._clock() - up_at >= self._patience.steady_s:
                    pause_s = self._patience.first_s
            reason, _, printed = ending.partition("\n")
            self._again_at = self._clock() + pause_s
            self._why_not = f"{self._label} ended ({reason}) and is being started again"
            self._say(f"{self._label} ended: {reason}; it is started again in {pause_s:g} s{_end_of(printed)}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._patience.most_s)
            self.restarts += 1

    async def stop(self, *, at_once: bool = False) -> None:
        """End the engine; `keep` must have been cancelled, or have raised."""
        self._why_not = f"{self._label} is being stopped"
        if at_once:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._serving.stop(0.0), AT_ONCE_S)
        else:
            await self._serving.stop(GRACE_S)

    async def _end(self) -> str:
        """Wait until the engine has ended, or hangs; how."""
        ended, hung = asyncio.ensure_future(self._serving.ended.wait()), asyncio.ensure_future(self.watch.hung())
        try:
            await asyncio.wait({ended, hung}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return self._serving.ending
            self._hung = hung.result()
            self._why_not = f"{self._label} is being ended ({self._hung})"
            return self._hung
        finally:
            ended.cancel()
            hung.cancel()

    def _lost(self, error: Unavailable, failed_loads: int) -> NotServed:
        times = "" if failed_loads == 1 else f" ({failed_loads} times in a row)"
        reason, _, printed = error.message.partition("\n")
        return NotServed(
            f"{self._label} cannot be loaded{times}: {reason}{_end_of(printed)}",
            "name another with --backend, or measure which ones run: --calibrate SECONDS",
        )


def _end_of(printed: str) -> str:
    return "".join(f"\n  {line}" for line in printed.splitlines()[-LOG_LINES:])
