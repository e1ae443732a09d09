"""Several computations take turns around one place that holds one thing at a time, so that it is fetched once for all.

A model whose weights do not fit in the memory runs a layer at a time. Its forward is other people's code and cannot be
cut into pieces, so each computation has a thread of its own, of which one runs at any time: up to the next layer, where
it waits until all others have passed the layer that is there.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """The place, and who waits for what.

    Args:
        fetch: brings a thing to the place, and takes away what was there.
    """

    def __init__(self, fetch: Callable[[T], None]) -> None:
        self._fetch = fetch
        self._here: T | None = None
        self._turn: _Turn[T] | None = None

    def need(self, thing: T) -> None:
        """Called by a computation: returns when the thing is there."""
        if self._here is thing:
            return
        turn = self._turn
        if turn is None:  # nobody else computes
            self._bring(thing)
            return
        turn.wants = thing
        turn.hand_back()

    def take(self, computations: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run all computations; a thing that all need is fetched once for all.

        Raises:
            Exception: what a computation raised; the others are ended.
        """
        turns = [_Turn[T](computation) for computation in computations]
        try:
            while waiting := [turn for turn in turns if not turn.ended]:
                ready = [turn for turn in waiting if turn.wants is None or turn.wants is self._here]
                if not ready:
                    wanted = waiting[0].wants
                    assert wanted is not None
                    self._bring(wanted)
                    continue
                self._turn = ready[0]
                ready[0].run()
                if ready[0].error is not None:
                    raise ready[0].error
        finally:
            self._turn = None
            for turn in turns:
                turn.end()
        return [turn.result for turn in turns]

    def _bring(self, thing: T) -> None:
        self._here = None
        self._fetch(thing)
        self._here = thing


class _Ended(BaseException):
    """Unwinds a computation that is no longer wanted."""


@dataclass(slots=True)
class _Turn(Generic[T]):
    """One computation with its thread, which runs while `run` waits."""

    computation: Callable[[], Any]
    wants: T | None = None
    ended: bool = False
    result: Any = None
    error: BaseException | None = None
    _unwanted: bool = False
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _back: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _thread: threading.Thread | None = None

    def run(self) -> None:
        """Let it compute up to the next thing that is not there, or to its end."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._compute, daemon=True)
            self._thread.start()
        self._go.release()
        self._back.acquire()

    def hand_back(self) -> None:
        """Called in the thread: wait for the next turn."""
        self._back.release()
        self._go.acquire()
        if self._unwanted:
            raise _Ended

    def end(self) -> None:
        """Have no thread left."""
        if self._thread is None:
            return
        if not self.ended:
            self._unwanted = True
            self.run()
        self._thread.join()

    def _compute(self) -> None:
        self._go.acquire()
        try:
            self.result = self.computation()
        except _Ended:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised where the computations were asked for
            self.error = error
        finally:
            self.ended = True
            self._back.release()
