"""A worker and its children: the memory that they held at their peak, as far as it was looked at, and their CPU use."""

import contextlib
import os

import psutil

from calibration.supervision.readings import gpu_bytes

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessTree:
    """The processes of a worker.

    Args:
        pid: of the worker itself.
        watch_gpu: also follow the tree's memory on NVIDIA GPUs.
    """

    def __init__(self, pid: int, *, watch_gpu: bool) -> None:
        self._pid = pid
        self._watch_gpu = watch_gpu
        self.peak_memory_bytes = 0
        self.peak_unmapped_bytes = 0
        """Of peak_memory_bytes, what no file backs, as far as it was looked at."""
        self.peak_gpu_memory_bytes = 0

    def processes(self) -> list[psutil.Process]:
        """The worker first; none where it is gone."""
        try:
            root = psutil.Process(self._pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []

    def look_at_memory(self, *, children: bool, converting: bool = False) -> None:
        """Raise the peak where the memory is above it.

        Args:
            children: count them too, each without what it shares: the watchdog's pages are the worker's.
            converting: leave out what a forked child has in common with the worker, see `_children_bytes`.
        """
        try:
            with open(f"/proc/{self._pid}/statm", encoding="ascii") as file:  # noqa: PTH123  ten times a second
                _, resident, shared, *_ = map(int, file.read().split())
            size, unmapped = resident * _PAGE, (resident - shared) * _PAGE
            if children:
                with open(f"/proc/{self._pid}/status", encoding="ascii") as file:  # noqa: PTH123
                    peak = next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM")), size)
                of_children = self._children_bytes(converting=converting)
                size, unmapped = max(size, peak) + of_children, unmapped + of_children
                if self._watch_gpu:
                    used = gpu_bytes({p.pid for p in self.processes()})
                    self.peak_gpu_memory_bytes = max(self.peak_gpu_memory_bytes, used)
        except OSError:
            return
        self.peak_memory_bytes = max(self.peak_memory_bytes, size)
        self.peak_unmapped_bytes = max(self.peak_unmapped_bytes, unmapped)

    def cpu_s(self) -> float:
        """CPU seconds of the tree so far."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _children_bytes(self, *, converting: bool) -> int:
        """What the children hold and do not share.

        Args:
            converting: leave out the pages that a forked child has in common with the worker: OpenVINO's tracer forks
                with the whole model in memory. That is exact, and takes longer.
        """
        total = 0
        for child in self.processes()[1:]:
            with contextlib.suppress(psutil.Error):
                if converting:
                    total += child.memory_full_info().uss
                else:
                    memory = child.memory_info()
                    total += max(0, memory.rss - memory.shared)
        return total
