"""The end of what engines print is kept, and no more: a server that runs for months must not fill the disk."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 16 << 20
"""A longer log is cut."""
KEPT_BYTES = 4 << 20
"""Of a log that is cut, so much of its end is kept: what is shown of an engine that ended is a thousandth of it."""
LOOK_S = 1.0


@contextlib.contextmanager
def kept_short(
    folder: Path, *, most_bytes: int = MOST_BYTES, kept_bytes: int = KEPT_BYTES, look_s: float = LOOK_S
) -> Iterator[None]:
    """Meanwhile cut logs of a folder that grow long, on a thread of its own. Who writes them must append (O_APPEND)."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(look_s):
            for log in folder.glob("*.log"):
                cut(log, most_bytes=most_bytes, kept_bytes=kept_bytes)

    thread = threading.Thread(target=look, name="autobackend-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cut(log: Path, *, most_bytes: int = MOST_BYTES, kept_bytes: int = KEPT_BYTES) -> None:
    """Leave the last whole lines of a log that is longer than `most_bytes`; any other stays as it is.

    It is cut in place, since the engine holds it open: what is printed in between, for a millisecond, is lost.
    """
    try:
        with log.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= most_bytes:
                return
            file.seek(size - kept_bytes)
            end = file.read()
            file.truncate(0)
    except FileNotFoundError:  # it was removed meanwhile
        return
    _, newline, lines = end.partition(b"\n")
    with log.open("ab") as file:
        file.write(lines if newline else end)
