"""Runs a command whose whole process group ends when the process that started it ends, in whatever way.

As a script, `python lifeline.py FD COMMAND...` is the guard process between the two: standard library only.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal that a process gets when the thread that started it ends."""
GONE_S = 5.0
"""How long a killed group may take to go."""


class Guarded:
    """A command in a process group of its own. Use it as a context manager: leaving it kills the whole group.

    A Ctrl-C at the terminal does not reach the command; a kill -9 of this process ends it.

    Args:
        command: program and arguments; its stdout and stderr are one stream of lines.
        variables: all environment variables of the command.

    Raises:
        OSError: the guard cannot be started.
    """

    def __init__(self, command: Sequence[str], *, variables: Mapping[str, str]) -> None:
        lifeline, self._lifeline = os.pipe()
        guard = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(lifeline)]
        try:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(lifeline,),
                start_new_session=True,
                env=dict(variables),
                encoding="utf-8",
                errors="replace",
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + GONE_S
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.killpg(self._process.pid, 0)
                time.sleep(0.005)
        os.close(self._lifeline)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Of the guard, at the root of all that the command starts."""
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """What the command prints, line by line as it comes, without the line ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line.rstrip("\n")

    def wait(self) -> int:
        """The exit code; 128 + signal where a signal ended the command."""
        return self._process.wait()


def _guard(lifeline: int, command: Sequence[str]) -> int:
    def watch() -> None:
        os.read(lifeline, 1)  # returns when the other end is closed; only the starting process holds that
        os.killpg(0, signal.SIGKILL)

    prctl, guard = getattr(ctypes.CDLL(None), "prctl", None), os.getpid()  # the first is of Linux

    def die_with_the_guard() -> None:
        # Ray kills the children of a worker that ends, one by one: the guard, and then nobody ends its group.
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard:  # it was killed before that, and tells nobody any more
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = subprocess.call(command, preexec_fn=die_with_the_guard)  # a system call, no lock
    except OSError as error:
        sys.stdout.write(f"{command[0]}: {error.strerror}\n")
        return 127
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(_guard(int(sys.argv[1]), sys.argv[2:]))
