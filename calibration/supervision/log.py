"""The log of an engine: what it printed, of which the end is kept where it fails."""

import os
from pathlib import Path

END_BYTES = 4000
"""An error and its traceback."""


def end_of(log: Path, *, began: int = 0) -> str:
    """The end of a log, of which no more is read than that: engines may print gigabytes.

    Args:
        began: bytes that were in the file before.
    """
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(began, size - END_BYTES))
        return file.read().decode(errors="replace").strip()
