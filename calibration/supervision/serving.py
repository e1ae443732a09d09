"""A worker that serves requests: they go out as they come; what each step gives comes back on a thread of its own."""

import contextlib
import json
import threading
from collections.abc import Callable, Sequence

from calibration.engine.streams import Delta, Request
from calibration.measurement import FailureKind
from calibration.supervision.replies import Trouble, error_told, no_answer
from calibration.supervision.supervisor import Worker
from calibration.worker.serving import DELTAS, delta_from_plain, request_to_plain

_READER = json.JSONDecoder()
LOOK_S = 3600.0
"""How long a look at the pipe waits for a line; it ends at once when the worker dies."""


class ServingWorker:
    """A worker whose engine was loaded by the verb `load_streams`, once it serves.

    Args:
        worker: who opens it is its owner, and must not leave its context before `kill` has returned, or `join` has
            told True: the thread reads its pipe until then.
        on_deltas: called on the reading thread with what a step gave.
        on_end: called on the reading thread, once, when the worker is gone or says what cannot be. Nothing follows,
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
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="autobackend-deltas", daemon=True)

    def start(self, timeout_s: float = 60.0) -> Trouble | None:
        """Tell the worker to serve; the trouble if it does not."""
        reply = self._worker.ask("serve", timeout_s=timeout_s)
        if isinstance(reply, Trouble):
            return reply
        self._reader.start()
        return None

    def add(self, request: Request) -> None:
        """Send a request. It waits where the pipe is full: for a process that is stopped or swapped out, forever.

        Raises:
            BrokenPipeError: the worker is gone; `on_end` is or was called.
        """
        self._send(add_line(request))

    def cancel(self, request_id: str) -> None:
        """End a request now; see add for what it raises. Deltas that were under way still come."""
        self._send(cancel_line(request_id))

    def close(self) -> None:
        """Tell the worker to end; see add for what it raises. `on_end` tells that it did."""
        self._send(close_line())

    def join(self, timeout_s: float) -> bool:
        """Wait until the reading thread is over; whether it is. The worker must have been told to end, or killed."""
        if self._reader.ident is not None:
            self._reader.join(timeout_s)
        return not self._reader.is_alive()

    def kill(self) -> None:
        """End the worker at once, and wait until nothing is read from it; `on_end` was called by then.

        `on_end` itself may call it.
        """
        self._worker.kill()
        if self._reader.ident is not None and self._reader is not threading.current_thread():
            self._reader.join()

    def _send(self, line: bytes) -> None:
        with self._writing:
            self._worker.send(line)

    def _read(self) -> None:
        while True:
            line = self._worker.next_line(LOOK_S)
            if isinstance(line, Trouble):
                if line.at_deadline:
                    continue
                self._on_end(line)
                return
            deltas = read_deltas(line)
            if isinstance(deltas, Trouble):
                self._on_end(deltas)
                return
            self._on_deltas(deltas)


def add_line(request: Request) -> bytes:
    """The line that sends a request to a worker that serves."""
    return _line({"verb": "add", **request_to_plain(request)})


def cancel_line(request_id: str) -> bytes:
    """The line that ends a request."""
    return _line({"verb": "cancel", "id": request_id})


def close_line() -> bytes:
    """The line that ends the worker."""
    return _line({"verb": "close"})


def read_deltas(line: bytes) -> list[Delta] | Trouble:
    """What a line from a worker that serves tells: of a step, or of its end."""
    try:
        text = line.decode()
        event, end = _READER.raw_decode(text)  # json.loads looks for the encoding first, and for blanks around
        if end == len(text):
            return [delta_from_plain(plain) for plain in event[DELTAS]]
    except (ValueError, KeyError, TypeError):
        pass
    return _not_deltas(line)


def _line(command: dict[str, object]) -> bytes:
    return (json.dumps(command) + "\n").encode()


def _not_deltas(line: bytes) -> Trouble:
    """A worker whose engine raised sends its error as the last line."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        event = json.loads(line)
        if event["event"] == "error":
            return error_told(event, FailureKind.CRASHED)
    return no_answer(line)
