"""One calibration at a time on a device: a lock that names its holder and dies with it."""

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from calibration.errors import DeviceBusy

FOLDER = Path(tempfile.gettempdir()) / "autobackend-locks"
"""The same for all users of the machine."""


@contextlib.contextmanager
def device_lock(device: str, *, folder: Path | None = None) -> Iterator[None]:
    """Hold `device` for this process. The kernel releases it when the process ends, however it ends.

    Args:
        device: name of the device.
        folder: of the locks; by default FOLDER.

    Raises:
        DeviceBusy: another process holds it.
    """
    root = folder or FOLDER
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user made it, and opened it to all
        root.chmod(0o1777)
    name = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-")
    holder_file = root / f"{name}.json"
    lock = filelock.FileLock(root / f"{name}.lock", mode=0o666)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DeviceBusy(
            f"{device} is being calibrated by {_holder(holder_file)}", "wait until it has ended, or stop it"
        ) from None
    try:
        holder_file.write_text(json.dumps({"pid": os.getpid(), "since": time.time()}), encoding="utf-8")
        yield
    finally:
        holder_file.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    """As in: process 4711 since 14:03:12."""
    try:
        holder = json.loads(file.read_text(encoding="utf-8"))
        return f"process {int(holder['pid'])} since {time.strftime('%H:%M:%S', time.localtime(holder['since']))}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
