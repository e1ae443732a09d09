"""A command that ends with the process which started it."""

import os
import signal
import sys
import time

import psutil

from calibration.environments.lifeline import Guarded

COMMAND = [sys.executable, "-u", "-c", "import os, time; print(os.getpid()); time.sleep(600)"]


def gone(pid: int) -> bool:
    end = time.monotonic() + 60.0
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_command_ends_where_its_guard_alone_is_killed() -> None:
    with Guarded(COMMAND, variables=os.environ) as command:
        pid = int(next(command.lines()))
        assert psutil.pid_exists(pid)
        os.kill(command.pid, signal.SIGKILL)  # as Ray does with the children of a worker that ends
        assert gone(pid)
