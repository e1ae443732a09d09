"""Program: a server that we start, in a process group of its own, which ends with it and with us."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from calibration.supervision.log import end_of
from calibration.supervision.readings import group_runs

LOOK_S = 1.0
"""How often its memory is looked at, as a worker's with its children is."""
GONE_S = 5.0
"""How long a killed group may take to go; a process in an uninterruptible wait may take longer."""

_WATCHDOG = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
os.read(int(sys.argv[1]), 1)
os.killpg(0, signal.SIGKILL)
"""
"""Its read returns when the other end of the pipe is closed; only the process that started it holds that."""


class Program:
    """A command with its process group. A watchdog leads the group and kills it when this process ends, in any way.

    A Ctrl-C at the terminal does not reach it. When the command ends, so do all processes of its group.

    Args:
        command: program and arguments.
        variables: all environment variables of it.
        log: file that takes everything it prints.
        cpus: cores that it is bound to; empty: those of this thread.
        memory_limit_bytes: above this it is killed, before the kernel picks a victim of its own.
        on_end: called once, on a thread of its own, when nothing of the group is left.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        variables: Mapping[str, str],
        log: Path,
        on_end: Callable[[], None],
        cpus: Collection[int] = (),
        memory_limit_bytes: int | None = None,
    ) -> None:
        self._log, self._on_end, self._limit = log, on_end, memory_limit_bytes
        self._killing = threading.Lock()
        self._gone = threading.Event()
        self._outgrown = ""
        lifeline, self._lifeline = os.pipe()
        try:
            # It leads the group: as long as it is not waited for, the number cannot be that of another group.
            self._watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WATCHDOG, str(lifeline)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(lifeline,),
                process_group=0,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)
        try:
            with log.open("ab") as out, _bound(cpus):
                self._log_began = out.tell()
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=dict(variables),
                    process_group=self._watchdog.pid,
                )
        except BaseException:
            self._end_group()
            raise
        threading.Thread(target=self._watch, name="autobackend-program", daemon=True).start()
        if memory_limit_bytes is not None:
            threading.Thread(target=self._keep_to_memory, name="autobackend-memory", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def group(self) -> int:
        """Number of its process group."""
        return self._watchdog.pid

    def terminate(self) -> None:
        """Ask it to end; its children are not asked."""
        self._process.terminate()

    def kill(self) -> None:
        """End the whole group now; on_end tells when it is gone."""
        if not self._killing.acquire(blocking=False):  # it is being killed
            return
        try:
            if not self._gone.is_set():
                os.killpg(self.group, signal.SIGKILL)
        finally:
            self._killing.release()

    @property
    def ending(self) -> str:
        """How it ended, as in: ended with exit code 1."""
        code = self._process.returncode
        if code is None:
            return "has not ended"
        if self._outgrown:
            return self._outgrown
        return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def log_tail(self) -> str:
        """The end of what it printed; the log may begin with what earlier programs did, and may have been cut since."""
        size = self._log.stat().st_size
        began = self._log_began if self._log_began <= size else 0
        return end_of(self._log, began=began)

    def _watch(self) -> None:
        self._process.wait()
        self._end_group()
        self._on_end()

    def _keep_to_memory(self) -> None:
        assert self._limit is not None
        while not self._gone.wait(LOOK_S):
            size = _tree_bytes(self.pid)
            if size > self._limit:
                reached, allowed = (f"{amount / 2**30:.1f} GiB" for amount in (size, self._limit))
                self._outgrown = f"was killed: it reached {reached} of memory; {allowed} are allowed"
                self.kill()

    def _end_group(self) -> None:
        """Kill what is left of the group, and wait until it is gone."""
        with self._killing:
            os.killpg(self.group, signal.SIGKILL)
            end = time.monotonic() + GONE_S
            while group_runs(self.group) and time.monotonic() < end:
                time.sleep(0.002)
            self._watchdog.wait()
            os.close(self._lifeline)
            self._gone.set()


def _tree_bytes(pid: int) -> int:
    """Memory of a process, and of its children what they do not share."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        total += root.memory_info().rss
        for child in root.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                memory = child.memory_info()
                total += max(0, memory.rss - memory.shared)
    return total


@contextlib.contextmanager
def _bound(cpus: Collection[int]) -> Iterator[None]:
    """Bind this thread while it starts a process, which is then bound as well."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
