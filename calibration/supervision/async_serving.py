"""A worker that serves, on an event loop: between its pipe and who waits for a token stands no thread."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from calibration.engine.streams import Delta, Request
from calibration.supervision.replies import Trouble
from calibration.supervision.serving import add_line, cancel_line, close_line, read_deltas
from calibration.supervision.supervisor import SERVING_LOOK_S, Worker

_SHORT_TOKENS: Final = 1000
"""Of a prompt; a longer one takes a while to write, and its line may be longer than what a pipe takes at once."""


class AsyncServingWorker:
    """A worker whose engine was loaded by the verb `load_streams`. All but `kill` is called on the event loop.

    A step of the engine wakes the loop once, whatever the number of its requests. A thread that reads, and hands over
    to the loop, costs a second wake-up and twice the CPU time: on a machine whose cores are all the engine's, its.

    Args:
        worker: who opens it is its owner, and must not leave its context before `kill` has returned.
        on_deltas: called with what a step gave.
        on_end: called once, when the worker is gone or says what cannot be, but not after `leave`. Nothing follows,
            also where the process still lives.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        on_deltas: Callable[[Sequence[Delta]], None],
        on_end: Callable[[Trouble], None],
    ) -> None:
        self._worker, self._on_deltas, self._on_end = worker, on_deltas, on_end
        self._loop = asyncio.get_running_loop()
        self._listens = self._has_left = False
        self._next_look: asyncio.TimerHandle | None = None
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="autobackend-requests")
        self._sending: Future[None] | None = None
        """The last line that the thread was given."""

    async def start(self, timeout_s: float = 60.0) -> Trouble | None:
        """Tell the worker to serve, and listen to it; the trouble if it does not."""
        reply = await asyncio.to_thread(self._worker.ask, "serve", timeout_s=timeout_s)
        if isinstance(reply, Trouble):
            return reply
        self._listens = True
        self._loop.add_reader(self._worker.pipe, self._read)
        self._look_later()
        return None

    def add(self, request: Request) -> None:
        """Send a request; a worker that is gone takes none, and `on_end` is or was called."""
        self._send(partial(add_line, request), is_short=len(request.prompt) <= _SHORT_TOKENS)

    def cancel(self, request_id: str) -> None:
        """End a request now. Deltas that were under way still come."""
        self._send(partial(cancel_line, request_id), is_short=True)

    def close(self) -> None:
        """Tell the worker to end; `on_end` tells that it did."""
        self._send(close_line, is_short=True)

    def leave(self) -> None:
        """Listen no more: nothing is called from now on."""
        self._has_left = True
        self._listen_no_more()

    def kill(self) -> None:
        """End the worker at once, after `leave`; blocks until it is gone, and may be called on any thread."""
        self._worker.kill()  # a line that is being sent then fails
        self._sender.shutdown()

    def _send(self, line_of: Callable[[], bytes], *, is_short: bool) -> None:
        """Send a line: now, where the pipe has room; else on a thread, for it may be full as long as a step takes."""
        if not self._listens:
            return
        if is_short and (self._sending is None or self._sending.done()):
            line = line_of()
            if self._worker.has_room(line):
                self._write(lambda: line)
                return
        self._sending = self._sender.submit(self._write, line_of)

    def _write(self, line_of: Callable[[], bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is gone: `on_end` tells why
            self._worker.send(line_of())

    def _read(self) -> None:
        lines = self._worker.lines_now()
        if lines is None:
            self._listen_no_more()
            ended = self._loop.run_in_executor(None, self._worker.ending)
            ended.add_done_callback(lambda ending: self._end(ending.result()))
            return
        for line in lines:
            deltas = read_deltas(line)
            if isinstance(deltas, Trouble):
                self._listen_no_more()
                self._end(deltas)
                return
            self._on_deltas(deltas)

    def _look(self) -> None:
        trouble = self._worker.look()
        if trouble is None:
            self._look_later()
            return
        self._listen_no_more()
        self._end(trouble)

    def _look_later(self) -> None:
        self._next_look = self._loop.call_later(SERVING_LOOK_S, self._look)

    def _listen_no_more(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._worker.pipe)
        if self._next_look is not None:
            self._next_look.cancel()

    def _end(self, trouble: Trouble) -> None:
        if not self._has_left:
            self._on_end(trouble)
