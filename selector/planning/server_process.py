"""A candidate's server as `autobackend serve` starts it, in a process of its own that ends with this one."""

import http.client
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

import selector
from calibration.environments.lifeline import Guarded
from calibration.served.place import Hold, NeverReady
from calibration.supervision.launch_spec import LaunchSpec, Limits
from selector.demand.demand import Demand

PROGRAM = Path(selector.__file__).resolve().parent.parent / "autobackend.py"
"""Run as a script, so that the server is of the very code that measures it."""
LOOK_S = 0.1
"""How often a server that loads is asked whether it is ready."""
GONE_S = 10.0
"""How long we wait for the processes of a server that was killed."""
SERVED_NAME = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerProcess:
    """A server that is ready; see calibration.served.place.Server."""

    url: str
    key: str
    pid: int
    load_s: float
    printed: "_Printed" = field(repr=False)
    served_name: str = SERVED_NAME

    def ended(self) -> str:
        """Why it is not there any more; empty while it runs."""
        return "" if self.printed.goes_on else self.printed.told()


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Starts servers of a model; see calibration.served.place.StartServer."""

    model: str
    demand: Demand
    cache: str = field(repr=False)
    """Cache.address: where it is kept."""
    artifacts: Path
    """Root of the store: the server has its weights and conversions from there."""
    limits: Limits = field(default_factory=Limits)

    @contextmanager
    def start(self, spec: LaunchSpec, hold: Hold, log: Path) -> Iterator[ServerProcess]:
        """A candidate's server, once it is ready; nothing of it is left afterwards.

        Raises:
            NeverReady: it ended, or was not ready within the limit of a load.
        """
        port, key = _free_port(), secrets.token_hex(16)
        command = [sys.executable, str(PROGRAM), *self._words(spec, hold, port)]
        began = time.monotonic()
        # Not as words: everybody on the machine may read those, and a URL has a password.
        variables = {**os.environ, "AUTOBACKEND_API_KEY": key, "AUTOBACKEND_ARTIFACTS": str(self.artifacts)}
        variables["AUTOBACKEND_CACHE"] = self.cache
        with Guarded(command, variables=variables) as guarded, _watched(guarded, log) as printed:
            self._wait(port, began, printed)
            yield ServerProcess(
                url=f"http://127.0.0.1:{port}",
                key=key,
                pid=guarded.pid,
                load_s=time.monotonic() - began,
                printed=printed,
            )

    def _words(self, spec: LaunchSpec, hold: Hold, port: int) -> Sequence[str]:
        wanted = replace(
            self.demand, workloads=(), objective=Demand().objective, ttft_s=None, tpot_s=None, price_per_hour=None
        )
        forced = replace(
            wanted, backends=(spec.label,), allow_lossy=wanted.allow_lossy or spec.variant.lossy, max_kl=None
        )
        return [
            "serve",
            self.model,
            *forced.options(),
            *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", SERVED_NAME),
            *("--slots", str(hold.slots), "--context", str(hold.context_tokens), "--threads", str(hold.threads)),
            *("--no-observe", "--to-measure"),
        ]

    def _wait(self, port: int, began: float, printed: "_Printed") -> None:
        """Return when it is ready.

        Raises:
            NeverReady: it will not be.
        """
        while not _is_healthy(port):
            if not printed.goes_on:
                raise NeverReady(printed.told(), out_of_memory="out of memory" in printed.told().lower())
            if time.monotonic() - began > self.limits.load_s:
                raise NeverReady(f"not ready within {self.limits.load_s:g} s", timed_out=True)
            time.sleep(LOOK_S)


class _Printed:
    """What a server prints, written to its log while it runs."""

    def __init__(self, guarded: Guarded, log: Path) -> None:
        self._guarded, self._log = guarded, log
        self._last: list[str] = []
        self._thread = threading.Thread(target=self._copy, name="autobackend-server-log", daemon=True)
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def told(self) -> str:
        """The error that it ended with, else the last line that it printed."""
        errors = [line.removeprefix("error: ") for line in self._last if line.startswith("error: ")]
        return (errors or self._last or ["the server ended and printed nothing"])[-1]

    def _copy(self) -> None:
        with self._log.open("a", encoding="utf-8") as log, suppress(ValueError):  # closed while it was read
            for line in self._guarded.lines():
                log.write(line + "\n")
                log.flush()
                self._last = [*self._last[-19:], line]


@contextmanager
def _watched(guarded: Guarded, log: Path) -> Iterator[_Printed]:
    """What it prints; on leaving, all that it started is gone, and not only its own process group."""
    printed = _Printed(guarded, log)
    try:
        yield printed
    finally:
        members = _tree(guarded.pid)
        for member in members:
            with suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(members, timeout=GONE_S)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _free_port() -> int:
    """A port that nobody listened at a moment ago. Whoever takes it first does not know the server's random key."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
