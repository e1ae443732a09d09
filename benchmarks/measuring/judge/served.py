"""A model served for the judges by `autobackend serve`."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibration.errors import AutobackendError
from calibration.load.run import LoadedServer

READY_S = 1800.0
"""A conversion may come first."""
END_S = 60.0


@contextlib.contextmanager
def serving(model: str, words: Sequence[str], *, vocab_size: int, log: Path) -> Iterator[LoadedServer]:
    """Start it, wait until it is ready, and end it.

    Args:
        words: further words of the command, such as `--backend openvino`.

    Raises:
        AutobackendError: it ended, or is not ready in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key, url = secrets.token_hex(8), f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "autobackend", "serve", model, "--port", str(port), "--api-key", key]
    command += ["--no-observe", *words]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(process, url, log)
        yield LoadedServer(url=url, model=_name(url, key), vocab_size=vocab_size, key=key, pids=(process.pid,))
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AutobackendError(f"autobackend serve ended with exit code {process.returncode}", f"see {log}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/health", timeout=5) as answer,  # noqa: S310  our own server
        ):
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise AutobackendError(f"autobackend serve was not ready within {READY_S:.0f} s", f"see {log}")


def _name(url: str, key: str) -> str:
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  our own server
        return str(json.load(answer)["data"][0]["id"])
