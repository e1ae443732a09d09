"""One calibration at a time on a device, and none beside a server of ours: locks that name their holders.

The kernel releases a lock when its process ends, however it ends.
"""

import contextlib
import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import psutil

from calibration.errors import DeviceBusy

FOLDER = Path(os.environ.get("AUTOBACKEND_LOCKS") or Path(tempfile.gettempdir()) / "autobackend-locks")
"""The same for all users of the machine."""
LOOKED_AT_S = 0.5
"""Whoever looks whether the lock is held holds it for a moment."""


@contextlib.contextmanager
def device_lock(device: str, *, folder: Path | None = None) -> Iterator[None]:
    """Hold `device` for a calibration of this process.

    Args:
        device: name of the device.
        folder: of the locks; by default FOLDER.

    Raises:
        DeviceBusy: another process holds it, or serves a model on it.
    """
    root = _made(folder)
    lock, holder_file = _lock(root, _name(device)), root / f"{_name(device)}.json"
    try:
        lock.acquire(timeout=LOOKED_AT_S)
    except filelock.Timeout:
        raise DeviceBusy(
            f"{device} is being calibrated by {_process(_read(holder_file))}", "wait until it has ended, or stop it"
        ) from None
    try:
        for server in _servers(root, device):
            model, url = (server.get(name, "?") for name in ("model", "url"))
            raise DeviceBusy(
                f"{device} serves {model} at {url} ({_process(server)}): beside that every time would be wrong",
                "stop it, calibrate, and start it again",
            )
        holder_file.write_text(json.dumps(_this_process()), encoding="utf-8")
        yield
    finally:
        holder_file.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def serving_on(device: str, *, model: str, url: str, folder: Path | None = None) -> Iterator[None]:
    """Tell calibrations that this process serves a model on `device`. Several may serve on one."""
    root = _made(folder)
    name = f"{_name(device)}.server-{uuid.uuid4().hex[:12]}"
    lock, holder_file = _lock(root, name), root / f"{name}.json"
    lock.acquire(timeout=0)  # nobody else knows the name before it stands in the file
    try:
        holder_file.write_text(json.dumps({**_this_process(), "model": model, "url": url}), encoding="utf-8")
        yield
    finally:
        lock.release()
        _forget(root, name)


def calibrated_by(device: str, *, folder: Path | None = None) -> str:
    """Who calibrates on `device` now, as in: process 4711 since 14:03:12; empty: nobody, or who has started us."""
    root = _made(folder)
    if not _is_held(root, _name(device)):
        return ""
    holder = _read(root / f"{_name(device)}.json")
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    return "" if holder.get("pid") in ours else _process(holder)


def _servers(root: Path, device: str) -> Iterator[Mapping[str, Any]]:
    """What those say of themselves that serve on a device; what is left of others is taken away."""
    for file in sorted(root.glob(f"{_name(device)}.server-*.json")):
        server = _read(file)
        if _is_held(root, file.stem):
            yield server
        else:
            _forget(root, file.stem)


def _made(folder: Path | None) -> Path:
    root = folder or FOLDER
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # another user made it, and opened it to all
        root.chmod(0o1777)
    return root


def _lock(root: Path, name: str) -> filelock.FileLock:
    return filelock.FileLock(root / f"{name}.lock", mode=0o666)


def _is_held(root: Path, name: str) -> bool:
    lock = _lock(root, name)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except PermissionError:  # of another user: some kernels do not let us open it
        return psutil.pid_exists(int(_read(root / f"{name}.json").get("pid", 0)))
    lock.release()
    return False


def _forget(root: Path, name: str) -> None:
    for suffix in ("json", "lock"):
        with contextlib.suppress(PermissionError):  # of another user, in a folder that is open to all
            (root / f"{name}.{suffix}").unlink(missing_ok=True)


def _name(device: str) -> str:
    """Of its files."""
    return re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-")


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "since": time.time()}


def _read(file: Path) -> Mapping[str, Any]:
    """What the holder of a lock has written; empty where it cannot be read."""
    try:
        holder = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _process(holder: Mapping[str, Any]) -> str:
    """As in: process 4711 since 14:03:12."""
    try:
        return f"process {int(holder['pid'])} since {time.strftime('%H:%M:%S', time.localtime(holder['since']))}"
    except (ValueError, KeyError, TypeError):
        return "another process"
