"""The CPU time of a process, finer than the clock's ticks."""

import os
import time

from benchmarks.serving.spent import cpu_s


def test_it_tells_what_a_process_has_spent() -> None:
    begin_s, began = cpu_s(os.getpid()), time.process_time()
    while time.process_time() - began < 0.004:
        pass
    assert 0.004 <= cpu_s(os.getpid()) - begin_s < 1
