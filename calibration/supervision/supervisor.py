"""Spawns, times out and kills a worker and all its children; no orphan on any path."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from calibration.measurement import FailureKind
from calibration.worker import main as worker_module

POLL_S = 0.1
"""How often a waiting supervisor looks at the worker's own memory; the whole tree is looked at ten times less often."""
TREE_EVERY = 10
LOG_TAIL_BYTES = 4000
GONE_S = 5.0
"""How long a killed group may take to go; a process in an uninterruptible wait may take longer than we wait."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the worker answered."""

    fields: Mapping[str, Any]
    seconds: float
    foreign_cores: float
    """Mean number of cores that were kept busy by processes outside the worker's tree while it worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How the worker failed; it is dead."""

    kind: FailureKind
    message: str
    at_deadline: bool = False


class Worker:
    """One worker process with its group. Use as a context manager: on leaving it nothing of the group is left.

    Args:
        python: the interpreter of the backend.
        log: file that takes everything the engine prints.
        memory_limit_bytes: above this the tree is killed as out of memory, before the kernel picks a victim of its own.
        environment: additions to the environment variables.
        watch_gpu: also follow the tree's memory on NVIDIA GPUs.
    """

    def __init__(
        self,
        python: Path,
        *,
        log: Path,
        memory_limit_bytes: int,
        environment: Mapping[str, str] | None = None,
        watch_gpu: bool = False,
    ) -> None:
        self._log = log
        self._limit = memory_limit_bytes
        self._oom_kills = _oom_kills()
        self._watch_gpu = watch_gpu
        self.peak_memory_bytes = 0
        self.peak_gpu_memory_bytes = 0
        commands, self._commands = os.pipe()
        self._events, events = os.pipe()
        lifeline, self._lifeline = os.pipe()
        self._buffer = b""
        self._killed = False
        ours = (commands, events, lifeline)
        try:
            with log.open("ab") as out:
                self._process = subprocess.Popen(
                    [str(python), str(Path(worker_module.__file__).resolve()), *map(str, ours)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    pass_fds=ours,
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                )
        except OSError:
            for fd in (self._commands, self._events, self._lifeline):
                os.close(fd)
            raise
        finally:
            for fd in ours:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for fd in (self._commands, self._events, self._lifeline):
            os.close(fd)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, verb: str, *, timeout_s: float, **fields: Any) -> Reply | Trouble:
        """Send a request and wait for its answer, at most `timeout_s` seconds."""
        began, busy, own = time.monotonic(), _busy_s(), self._cpu_s()
        try:
            os.write(self._commands, (json.dumps({"verb": verb, **fields}) + "\n").encode())
        except BrokenPipeError:
            return self._dead()
        line = self._wait(began + timeout_s)
        seconds = time.monotonic() - began
        if isinstance(line, Trouble):
            self.kill()
            return line
        foreign = max(0.0, (_busy_s() - busy) - (self._cpu_s() - own)) / max(seconds, 1e-3)
        answer = _parse(line)
        if isinstance(answer, Trouble):
            self.kill()
            return answer
        self._look_at_memory(tree=True)
        if answer["event"] == "error":
            if answer.get("out_of_memory"):
                kind = FailureKind.OUT_OF_MEMORY
            elif answer.get("stopped_early"):
                kind = FailureKind.WRONG_OUTPUT
            else:
                kind = FailureKind.REFUSED if verb in ("open", "prepare", "load") else FailureKind.CRASHED
            return Trouble(kind=kind, message=str(answer["message"]))
        return Reply(fields=answer, seconds=seconds, foreign_cores=foreign)

    def kill(self) -> None:
        """End the worker, its process group and whatever left the group; wait until it is gone."""
        if self._killed:  # the number may belong to another group by now
            return
        self._killed = True
        strays = self._tree()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stray in strays:
            with contextlib.suppress(psutil.Error):
                stray.kill()
        self._process.wait()
        end = time.monotonic() + GONE_S
        while _runs(self._process.pid) and time.monotonic() < end:
            time.sleep(0.002)

    def log_tail(self) -> str:
        """The end of what the engine printed."""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()

    def _wait(self, deadline: float) -> bytes | Trouble:
        """The next line from the worker."""
        polls = 0
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return Trouble(kind=FailureKind.TIMED_OUT, message="no answer within the time limit", at_deadline=True)
            ready, _, _ = select.select([self._events], [], [], min(POLL_S, left))
            if ready:
                chunk = os.read(self._events, 1 << 16)
                if not chunk:
                    return self._dead()
                self._buffer += chunk
                if len(self._buffer) > 64 << 20:
                    return Trouble(
                        kind=FailureKind.CRASHED, message="the worker sent more than 64 MiB without an end of line"
                    )
                continue
            if self._process.poll() is not None:  # a child of the engine may hold the pipe open
                return self._dead()
            polls += 1
            self._look_at_memory(tree=polls % TREE_EVERY == 0)
            if self.peak_memory_bytes > self._limit:
                reached, allowed = (f"{size / 2**30:.1f} GiB" for size in (self.peak_memory_bytes, self._limit))
                return Trouble(kind=FailureKind.OUT_OF_MEMORY, message=f"reached {reached}; {allowed} are allowed")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _dead(self) -> Trouble:
        """Say how the worker ended; its pipe is closed."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Trouble(kind=FailureKind.CRASHED, message="the worker closed its pipe and went on running")
        if code >= 0:
            return Trouble(kind=FailureKind.CRASHED, message=f"the worker ended with exit code {code}")
        name = signal.Signals(-code).name
        if name == "SIGKILL" and _oom_kills() > self._oom_kills:
            return Trouble(kind=FailureKind.OUT_OF_MEMORY, message="killed by the kernel when memory ran out")
        if name == "SIGKILL":
            why = "from outside, as by an out-of-memory killer: --again measures it anew"
            return Trouble(kind=FailureKind.CRASHED, message=f"killed by {name} (signal 9) {why}")
        return Trouble(kind=FailureKind.CRASHED, message=f"killed by {name}")

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []

    def _look_at_memory(self, *, tree: bool) -> None:
        """Raise the peak; the watchdog's pages are the worker's, so only children larger than it count."""
        try:
            with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as file:  # noqa: PTH123  ten times a second
                size = int(file.read().split()[1]) * _PAGE
            if tree:
                with open(f"/proc/{self._process.pid}/status", encoding="ascii") as file:  # noqa: PTH123
                    peak = next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM")), size)
                size = max(size, peak) + self._children_bytes()
                if self._watch_gpu:
                    used = _gpu_bytes({p.pid for p in self._tree()})
                    self.peak_gpu_memory_bytes = max(self.peak_gpu_memory_bytes, used)
        except OSError:
            return
        self.peak_memory_bytes = max(self.peak_memory_bytes, size)

    def _children_bytes(self) -> int:
        total = 0
        for child in self._tree()[1:]:
            with contextlib.suppress(psutil.Error):
                memory = child.memory_info()
                total += max(0, memory.rss - memory.shared)
        return total

    def _cpu_s(self) -> float:
        """CPU seconds of the tree so far."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def _parse(line: bytes) -> dict[str, Any] | Trouble:
    """An answer of the worker, or why it is none."""
    with contextlib.suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict) and answer.get("event") in ("done", "error"):
            return answer
    shown = line[:80].decode(errors="replace")
    return Trouble(kind=FailureKind.CRASHED, message=f"the worker sent what is no answer: {shown!r}")


def _busy_s() -> float:
    """CPU seconds spent on our cores so far, by everybody; time stolen by other machines on the hardware included."""
    mine = os.sched_getaffinity(0)
    ticks = 0
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            name, *values = line.split()
            if name.startswith("cpu") and name != "cpu" and int(name[3:]) in mine:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
                ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _runs(group: int) -> bool:
    """Whether a process group has a member that is no zombie."""
    for name in os.listdir("/proc"):  # noqa: PTH208  names are all that is needed
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                state, _parent, its_group = file.read().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    return True
    return False


def _gpu_bytes(pids: set[int]) -> int:
    """Memory that these processes hold on NVIDIA GPUs; 0 where the driver does not say."""
    import pynvml

    try:
        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        running = [p for d in devices for p in pynvml.nvmlDeviceGetComputeRunningProcesses(d)]
    except pynvml.NVMLError:
        return 0
    return sum(p.usedGpuMemory or 0 for p in running if p.pid in pids)


def _oom_kills() -> int:
    """How often the kernel has killed for memory, on the machine and in our cgroup."""
    total = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            for line in Path(path).read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    total += int(line.split()[1])
    return total
