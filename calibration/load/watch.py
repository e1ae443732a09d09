"""Watches a load from outside: the cores that the server, the client and others used, and the server's memory."""

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import psutil

from calibration.supervision.readings import busy_s, gpu_bytes

TICKS_S = 0.03
"""Others that were busy for less are not seen: the clock ticks of /proc/stat are 10 ms each, a few rounded at once."""
TREE_EVERY = 10
"""Looks at the memory for each search for children, which asks all processes of the machine, on the engine's cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """CPU seconds so far."""

    at_s: float
    busy_s: float
    """Of all processes on our cores."""
    ours_s: float
    """Of the server, the client and this process."""
    client_s: float


class Watch:
    """Of one load.

    Args:
        client: the client's process id.
        server: process ids of the server; their children are the server's, too.
        watch_gpu: also the server's memory on NVIDIA GPUs.
    """

    def __init__(self, client: int, server: Collection[int], *, watch_gpu: bool = False) -> None:
        self._client, self._server, self._watch_gpu = client, server, watch_gpu
        self._looks = 0
        self._trees: dict[int, list[psutil.Process]] = {}
        """Of each process of the server, it and its children."""
        self.peak_memory_bytes = 0
        self.peak_gpu_memory_bytes: int | None = None

    def read(self) -> Reading:
        """The CPU seconds now."""
        client = {process.pid: _cpu_s(process) for process in _trees([self._client])}
        # This process may hold the server's front, and reads what the client tells; its other children are not ours.
        own = os.times()
        used = (
            {process.pid: _cpu_s(process) for process in _trees(self._server)}
            | client
            | {os.getpid(): own.user + own.system}
        )
        client_s, ours_s = sum(client.values()), sum(used.values())
        return Reading(at_s=time.monotonic(), busy_s=busy_s(), ours_s=ours_s, client_s=client_s)

    def look_at_memory(self) -> None:
        """Raise the peaks where the memory is above them."""
        if self._looks % TREE_EVERY == 0:
            self._trees = {root: list(_trees([root])) for root in self._server}
        self._looks += 1
        memory = sum(_tree_bytes(root, tree) for root, tree in self._trees.items())
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        if self._watch_gpu:
            used = gpu_bytes({process.pid for process in _trees(self._server)})
            self.peak_gpu_memory_bytes = max(self.peak_gpu_memory_bytes or 0, used)


def foreign_share(begin: Reading, end: Reading) -> float:
    """Share of our cores that others used between two readings."""
    others_s = (end.busy_s - begin.busy_s) - (end.ours_s - begin.ours_s)
    available_s = (end.at_s - begin.at_s) * len(os.sched_getaffinity(0))
    return others_s / available_s if others_s > TICKS_S and available_s > 0 else 0.0


def client_cores(begin: Reading, end: Reading) -> float:
    """Cores that the client used between two readings."""
    return (end.client_s - begin.client_s) / max(end.at_s - begin.at_s, 1e-3)


def listener(port: int) -> int | None:
    """The process that listens on a port of this machine; None where that cannot be seen."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return int(connection.pid)
    return None


def _trees(roots: Collection[int]) -> Iterator[psutil.Process]:
    """The processes and all that they started, each once."""
    seen: set[int] = set()
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                if process.pid not in seen:
                    seen.add(process.pid)
                    yield process


def _cpu_s(process: psutil.Process) -> float:
    """With its children that have ended, so that what they used does not pass for others'."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _tree_bytes(root: int, tree: Collection[psutil.Process]) -> int:
    """A process's memory, and what each of its children holds and does not share."""
    total = 0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            total += memory.rss if process.pid == root else max(0, memory.rss - memory.shared)
    return total
