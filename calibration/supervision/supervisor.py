"""Starts a worker, waits for its answers, and kills it with all its children; no orphan is left on any path."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from calibration.measurement import FailureKind
from calibration.supervision.log import end_of
from calibration.supervision.process_tree import ProcessTree
from calibration.supervision.readings import busy_s, group_runs, oom_kills
from calibration.supervision.replies import Reply, Trouble, error_told, event_of
from calibration.worker import main as worker_module

POLL_S = 0.1
"""How often a waiting supervisor looks at the worker's own memory."""
TREE_EVERY = 10
"""Looks at the worker's own memory for each look at its children's, which takes longer."""
CONVERTING = frozenset({"prepare"})
"""Verbs of a conversion. A file that it maps costs no memory, since the kernel drops such pages where memory is short;
an engine that maps its weights needs them for every token. Children may convert, so they are
looked at more often."""
CONVERTING_TREE_EVERY = 3
REFUSING = frozenset({"open", "prepare", "load", "load_streams"})
"""Verbs in which an engine that raises refuses the model; in others it has crashed."""
SERVING_LOOK_S = 1.0
"""How often the memory of a worker that serves is looked at; its children's, which are found among all processes of the
machine, each TREE_EVERY looks."""
LONGEST_LINE = 64 << 20
GONE_S = 5.0
"""How long we wait for a killed group to be gone; a process in an uninterruptible wait may take longer."""
ANEW = ": --again measures it anew"
"""How a calibration goes on after what need not happen again; the end of a message."""


class Worker:
    """One worker process with its group. Use as a context manager: on leaving it nothing of the group is left.

    Args:
        python: the interpreter of the backend.
        log: file that takes everything the engine prints.
        memory_limit_bytes: above this the tree is killed as out of memory, before the kernel picks a victim of its own.
        variables: additions to our own environment variables.
        watch_gpu: also follow the tree's memory on NVIDIA GPUs.
    """

    def __init__(
        self,
        python: Path,
        *,
        log: Path,
        memory_limit_bytes: int,
        variables: Mapping[str, str] | None = None,
        watch_gpu: bool = False,
    ) -> None:
        self._log = log
        self._limit = memory_limit_bytes
        self._oom_kills = oom_kills()
        commands, self._commands = os.pipe()
        self._events, events = os.pipe()
        lifeline, self._lifeline = os.pipe()
        self._buffer = b""
        self._killed = False
        self._next_look_s, self._looks = 0.0, 0
        its_ends = (commands, events, lifeline)
        try:
            with log.open("ab") as out:
                self._process = subprocess.Popen(
                    [str(python), str(Path(worker_module.__file__).resolve()), *map(str, its_ends)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    pass_fds=its_ends,
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **(variables or {})},
                )
        except OSError:
            for fd in (self._commands, self._events, self._lifeline):
                os.close(fd)
            raise
        finally:
            for fd in its_ends:
                os.close(fd)
        self._tree = ProcessTree(self._process.pid, watch_gpu=watch_gpu)

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

    @property
    def peak_memory_bytes(self) -> int:
        """Of the worker and its children, as far as it was looked at."""
        return self._tree.peak_memory_bytes

    @property
    def peak_unmapped_bytes(self) -> int:
        """Of peak_memory_bytes, what no file backs."""
        return self._tree.peak_unmapped_bytes

    @property
    def peak_gpu_memory_bytes(self) -> int:
        return self._tree.peak_gpu_memory_bytes

    @property
    def pipe(self) -> int:
        """The file descriptor by which its lines come."""
        return self._events

    def ask(self, verb: str, *, timeout_s: float, **fields: Any) -> Reply | Trouble:
        """Send a request and wait for its answer, at most `timeout_s` seconds."""
        began, busy, own = time.monotonic(), busy_s(), self._tree.cpu_s()
        try:
            os.write(self._commands, (json.dumps({"verb": verb, **fields}) + "\n").encode())
        except BrokenPipeError:
            return self.ending()
        line = self._wait(began + timeout_s, converting=verb in CONVERTING)
        seconds = time.monotonic() - began
        if isinstance(line, Trouble):
            self.kill()
            return line
        foreign = max(0.0, (busy_s() - busy) - (self._tree.cpu_s() - own)) / max(seconds, 1e-3)
        answer = event_of(line)
        if isinstance(answer, Trouble):
            self.kill()
            return answer
        self._tree.look_at_memory(children=True, converting=verb in CONVERTING)
        if answer["event"] == "error":
            return error_told(answer, FailureKind.REFUSED if verb in REFUSING else FailureKind.CRASHED)
        return Reply(fields=answer, seconds=seconds, foreign_cores=foreign)

    def send(self, line: bytes) -> None:
        """Write a line to a worker that serves: it answers when it has something, see worker/serving.py.

        Raises:
            BrokenPipeError: the worker is gone.
        """
        left = memoryview(line)
        while left:
            left = left[os.write(self._commands, left) :]

    def next_line(self, timeout_s: float) -> bytes | Trouble:
        """The next line from a worker that serves.

        Trouble.at_deadline: there was none in time, and it lives. After another trouble it is to be killed, where it is
        not dead: nothing more is read from it.
        """
        now = time.monotonic()
        if now >= self._next_look_s:
            self._next_look_s = now + SERVING_LOOK_S
            if (trouble := self.look()) is not None:
                return trouble
        return self._wait(now + timeout_s, converting=False)

    def lines_now(self) -> list[bytes] | None:
        """The lines of a worker that serves that have come; it does not wait where `pipe` is readable.

        None: the pipe has ended, see `ending`.
        """
        chunk = os.read(self._events, 1 << 16)
        if not chunk:
            return None
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        if len(self._buffer) > LONGEST_LINE:  # who reads it says that it is no answer
            lines.append(self._buffer)
            self._buffer = b""
        return lines

    def look(self) -> Trouble | None:
        """Look at a worker that serves: the trouble where its memory is above the limit.

        Or where it is dead, has said all, and a child of its engine holds the pipe open.
        """
        self._looks += 1
        if self._process.poll() is not None and not _is_ready(self._events, select.POLLIN, 0.0):
            return self.ending()
        return self._look(tree=self._looks % TREE_EVERY == 0, converting=False)

    def has_room(self, line: bytes) -> bool:
        """Whether `send` does not wait with a line: it is short, and the pipe has room for so much (POSIX, write)."""
        return len(line) <= select.PIPE_BUF and _is_ready(self._commands, select.POLLOUT, 0.0)

    def ending(self) -> Trouble:
        """How the worker ended, whose pipe has ended; waits until its process has."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Trouble(kind=FailureKind.CRASHED, message="the worker closed its pipe and went on running")
        if code >= 0:
            return Trouble(kind=FailureKind.CRASHED, message=f"the worker ended with exit code {code}")
        name = signal.Signals(-code).name
        if name == "SIGKILL" and oom_kills() > self._oom_kills:
            return Trouble(kind=FailureKind.OUT_OF_MEMORY, message="killed by the kernel when memory ran out")
        if name == "SIGKILL":
            why = f"from outside, as by an out-of-memory killer{ANEW}"
            return Trouble(kind=FailureKind.CRASHED, message=f"killed by {name} (signal 9) {why}")
        return Trouble(kind=FailureKind.CRASHED, message=f"killed by {name}")

    def kill(self) -> None:
        """End the worker, its process group and whatever left the group; wait until it is gone."""
        if self._killed:  # by now the number may be that of another group
            return
        self._killed = True
        strays = self._tree.processes()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for stray in strays:
            with contextlib.suppress(psutil.Error):
                stray.kill()
        self._process.wait()
        end = time.monotonic() + GONE_S
        while group_runs(self._process.pid) and time.monotonic() < end:
            time.sleep(0.002)

    def log_tail(self) -> str:
        """The end of what the engine printed."""
        return end_of(self._log)

    def _wait(self, deadline: float, *, converting: bool) -> bytes | Trouble:
        """The next line from the worker."""
        polls = 0
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return Trouble(kind=FailureKind.TIMED_OUT, message="no answer within the time limit", at_deadline=True)
            if _is_ready(self._events, select.POLLIN, min(POLL_S, left)):
                chunk = os.read(self._events, 1 << 16)
                if not chunk:
                    return self.ending()
                self._buffer += chunk
                if len(self._buffer) > LONGEST_LINE:
                    return Trouble(
                        kind=FailureKind.CRASHED, message="the worker sent more than 64 MiB without an end of line"
                    )
                continue
            if self._process.poll() is not None:  # it is dead, though a child of the engine may hold the pipe open
                return self.ending()
            polls += 1
            every = CONVERTING_TREE_EVERY if converting else TREE_EVERY
            if (trouble := self._look(tree=polls % every == 0, converting=converting)) is not None:
                return trouble
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _look(self, *, tree: bool, converting: bool) -> Trouble | None:
        """Look at the memory; the trouble where it is above the limit."""
        self._tree.look_at_memory(children=tree, converting=converting)
        peak = self.peak_unmapped_bytes if converting else self.peak_memory_bytes
        if peak <= self._limit:
            return None
        reached, allowed = (f"{size / 2**30:.1f} GiB" for size in (peak, self._limit))
        return Trouble(kind=FailureKind.OUT_OF_MEMORY, message=f"reached {reached}; {allowed} are allowed")


def _is_ready(pipe: int, events: int, timeout_s: float) -> bool:
    """Whether a pipe has something to read (POLLIN) or room (POLLOUT), or has ended."""
    poll = select.poll()  # select itself takes no descriptor from 1024 on, and a server has many
    poll.register(pipe, events)
    return bool(poll.poll(1000 * timeout_s))
