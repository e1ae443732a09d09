"""Write a file whole or not at all: who reads it meanwhile, or after a crash, finds the old content or the new."""

import contextlib
import os
import tempfile
from pathlib import Path

DEFAULT_MODE = 0o644


def write_whole(path: Path, text: str, *, mode: int | None = None, sync: bool = True) -> None:
    """Replace the content of `path` by `text`, by way of a temporary file beside it.

    Args:
        mode: permissions of the file; None: those that it has, or DEFAULT_MODE where it is new.
        sync: the text is on the disk before it replaces the old one, so that a power cut leaves no empty file.

    Raises:
        OSError: it cannot be written; the old content stands, and nothing is left beside it.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.chmod(_mode_of(path) if mode is None else mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _mode_of(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode & 0o777
    return DEFAULT_MODE
