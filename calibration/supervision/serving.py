"""A worker that serves requests: they go out as they come; what each step gives comes back on a thread of its own."""

import json
import threading
from collections.abc import Callable, Sequence

from calibration.measurement import FailureKind
from calibration.streams import Delta, Request
from calibration.supervision.supervisor import Trouble, Worker
from calibration.worker.serving import DELTAS, delta_from_plain, request_to_plain

LOOK_S = 3600.0
"""How long a look at the pipe waits for a line; it ends at once when the worker dies."""


class ServingWorker:
    """A worker whose engine was loaded by the verb `load_streams`, once it serves.

    Args:
        worker: who opens and ends it is its owner.
        on_deltas: called on the reading thread with what a step gave.
        on_end: called on the reading thread, once, when the worker is gone or says what cannot be.
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
        """Send a request.

        Raises:
            BrokenPipeError: the worker is gone; `on_end` is or was called.
        """
        self._send({"verb": "add", **request_to_plain(request)})

    def cancel(self, request_id: str) -> None:
        """End a request now; see add for what it raises."""
        self._send({"verb": "cancel", "id": request_id})

    def close(self) -> None:
        """Tell the worker to end; see add for what it raises."""
        self._send({"verb": "close"})

    def join(self, timeout_s: float) -> None:
        """Wait until the reading thread is over; the worker must have been told to end, or killed."""
        if self._reader.ident is not None:
            self._reader.join(timeout_s)

    def _send(self, command: dict[str, object]) -> None:
        line = (json.dumps(command) + "\n").encode()
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
            try:
                event = json.loads(line)
                deltas = [delta_from_plain(plain) for plain in event[DELTAS]]
            except (ValueError, KeyError, TypeError):
                self._on_end(_not_an_event(line))
                return
            self._on_deltas(deltas)


def _not_an_event(line: bytes) -> Trouble:
    """A worker whose engine raised sends its error as the last line."""
    message = f"the worker sent what is no answer: {line[:80].decode(errors='replace')!r}"
    try:
        event = json.loads(line)
        if event.get("event") == "error":
            message = str(event["message"])
    except (ValueError, KeyError, AttributeError):
        pass
    return Trouble(kind=FailureKind.CRASHED, message=message)
