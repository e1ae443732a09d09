"""The log of engines: its end is kept, whoever writes it and holds it open, and it never grows far beyond that."""

import os
import sys
import threading
from pathlib import Path

import pytest

from selector.serve.keep.log_limit import cut, kept_short
from selector.serve.own_server.program import Program
from tests.selector.serve.serving import until

CHATTER = """
import sys, time
for number in range(20_000):
    sys.stdout.write(f"line {number}\\n")
    sys.stdout.flush()
    if number % 100 == 0:
        time.sleep(0.002)
sys.stdout.write("the last line\\n")
"""
"""240 kB within a second."""


@pytest.mark.parametrize("size", [0, 99, 100])
def test_a_log_that_is_not_too_long_stays(size: int, tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(b"x" * size)
    cut(log, most_bytes=100, kept_bytes=10)
    assert log.read_bytes() == b"x" * size


def test_of_a_long_one_the_last_whole_lines_stay(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    cut(log, most_bytes=100, kept_bytes=20)
    assert log.read_text() == "line 98\nline 99\n"


def test_of_a_long_line_the_end_stays(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("x" * 200 + "yz")
    cut(log, most_bytes=100, kept_bytes=4)
    assert log.read_text() == "xxyz"


def test_without_a_log_nothing_happens(tmp_path: Path) -> None:
    cut(tmp_path / "engine.log", most_bytes=100)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_prints_much_keeps_a_short_log(tmp_path: Path) -> None:
    log, ended = tmp_path / "engine.log", threading.Event()
    with kept_short(tmp_path, most_bytes=40_000, kept_bytes=8_000, look_s=0.01):
        program = Program([sys.executable, "-c", CHATTER], variables=dict(os.environ), log=log, on_end=ended.set)
        assert ended.wait(60)
        until(lambda: log.stat().st_size <= 40_000)
    lines = log.read_text().splitlines()
    assert lines[-1] == "the last line"
    assert all(line.startswith("line ") for line in lines[:-1])
    # The tail of a program whose beginning was cut away is still its own.
    assert program.log_tail().splitlines()[-2:] == ["line 19999", "the last line"]


def test_the_tail_of_a_later_program_begins_with_its_own_lines(tmp_path: Path) -> None:
    log, ended = tmp_path / "engine.log", threading.Event()
    log.write_text("of an earlier program\n")
    program = Program([sys.executable, "-c", "print('mine')"], variables={}, log=log, on_end=ended.set)
    assert ended.wait(10)
    assert program.log_tail() == "mine"
