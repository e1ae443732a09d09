"""Watch: notices an engine that lives and gives nothing while requests run: one that hangs."""

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from calibration.supervision.launch_spec import Limits
from selector.serve.upstream import Ask, Piece

LEAST_S = Limits().sample_s
"""A calibration gives a call up after as long. Engines that compile when they are first asked need much of it."""
LOOK_S = 1.0
"""How often it is looked, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """For how long an engine may give nothing while requests run. Not what is expected, but several times that."""

    least_s: float = LEAST_S
    """Never less."""
    read_s: float = 0.0
    """For each token of the prompts that it reads."""
    write_s: float = 0.0
    """For each new token, where an answer comes whole; 0: its tokens come one by one."""
    slots: int = 1
    """So many prompts are read at once."""
    context_tokens: int = 0
    """Longest sequence of each."""

    def first_s(self, ask: Ask) -> float:
        """How long the engine may take for an ask until something comes."""
        # A token is a character or more; of a text that the context does not hold nothing is read.
        prompt_tokens = min(self.context_tokens, _length(ask))
        new_tokens = self.context_tokens - prompt_tokens if ask.max_tokens is None else ask.max_tokens
        return self.read_s * prompt_tokens + self.write_s * new_tokens


class Watch:
    """Follows what one engine gives. Used on the event loop.

    What comes for any request counts: those that wait for a place in the engine get nothing for a good reason.
    """

    def __init__(self, silence: Silence = Silence(), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence, self._clock = silence, clock
        self._running = 0
        self._unread: dict[object, float] = {}
        """Of the requests for which nothing has come yet: how long each may take until something does."""
        self._moved_at = 0.0
        """When something came last, or the first of the requests that run began."""

    @contextmanager
    def following(self, ask: Ask) -> Iterator[Callable[[Piece], None]]:
        """While a request runs; call it with each piece that comes."""
        request = object()
        if not self._running:
            self._moved_at = self._clock()
        self._running += 1
        self._unread[request] = self._silence.first_s(ask)

        def came(_piece: Piece) -> None:
            self._moved_at = self._clock()
            self._unread.pop(request, None)

        try:
            yield came
        finally:
            self._running -= 1
            self._unread.pop(request, None)

    @property
    def silent_s(self) -> float:
        """For how long nothing has come, though requests run."""
        return self._clock() - self._moved_at if self._running else 0.0

    @property
    def allowed_s(self) -> float:
        """For how long that may be so now."""
        return max(self._silence.least_s, sum(heapq.nlargest(self._silence.slots, self._unread.values())))

    async def hung(self) -> str:
        """Return when the engine hangs: how that shows."""
        while self.silent_s <= self.allowed_s:
            await asyncio.sleep(min(LOOK_S, self._silence.least_s / 4))
        requests = "1 request" if self._running == 1 else f"{self._running} requests"
        return f"it hung, giving nothing for {self.silent_s:.0f} s while {requests} ran"


def _length(ask: Ask) -> int:
    """Tokens of a prompt, or the characters of a text."""
    if ask.prompt is not None:
        return len(ask.prompt)
    return sum(len(str(message.get("content") or "")) for message in ask.messages or ())
