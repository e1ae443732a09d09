"""The cores that the server, the client and others used, and what happens to a load that others disturbed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from calibration.load.load import Load
from calibration.load.run import LoadedServer, Measuring, run_load
from calibration.load.sample import Point
from calibration.load.watch import Reading, Watch, client_cores, foreign_share, listener
from tests.calibration.load.mock_server import serving, steady


def test_the_share_of_others_is_what_is_neither_servers_nor_clients() -> None:
    cores = len(os.sched_getaffinity(0))
    begin = Reading(at_s=10.0, busy_s=100.0, ours_s=50.0, client_s=1.0)
    assert foreign_share(begin, Reading(at_s=20.0, busy_s=110.0, ours_s=57.0, client_s=1.5)) == pytest.approx(
        0.3 / cores
    )
    assert client_cores(begin, Reading(at_s=20.0, busy_s=110.0, ours_s=57.0, client_s=1.5)) == pytest.approx(0.05)
    # The clock's ticks.
    assert foreign_share(begin, Reading(at_s=10.1, busy_s=100.1, ours_s=50.08, client_s=1.0)) == 0.0


def test_a_neighbour_is_seen_and_a_process_of_the_server_is_not_taken_for_one() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        without, with_it = Watch(sleeper.pid, ()), Watch(sleeper.pid, (spinner.pid,))
        begin = (without.read(), with_it.read())
        seconds = psutil.Process(spinner.pid).cpu_times().user
        while psutil.Process(spinner.pid).cpu_times().user < seconds + 0.5:
            time.sleep(0.02)
        end = (without.read(), with_it.read())
        with_it.look_at_memory()
    finally:
        for process in (spinner, sleeper):
            process.kill()
            process.wait()
    others = (end[0].busy_s - begin[0].busy_s) - (end[0].ours_s - begin[0].ours_s)
    others_but_it = (end[1].busy_s - begin[1].busy_s) - (end[1].ours_s - begin[1].ours_s)
    assert others - others_but_it == pytest.approx(0.5, abs=0.15)
    assert with_it.peak_memory_bytes > 1 << 20
    assert without.peak_memory_bytes == 0


def test_who_listens_on_a_port_is_found() -> None:
    with serving(steady(0.0, 0.0)) as mock:
        assert listener(mock.port) == os.getpid()
    assert listener(mock.port) is None


@contextmanager
def beside(*command: str) -> Iterator[int]:
    """The id of a process that runs meanwhile."""
    process = subprocess.Popen(command)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("left_s", "times"), [(None, 2), (25.0, 2), (20.0, 2), (19.0, 1)])
def test_a_disturbed_load_is_measured_once_more_where_that_fits(left_s: float | None, times: int) -> None:
    """The clock says that the first one took ten seconds."""
    told: list[str] = []
    # The mock is in this process, whose children would be the server's: the neighbour must not be one of the server.
    with (
        serving(steady(0.02, 0.0)) as mock,
        beside("sleep", "60") as server,
        beside(sys.executable, "-c", "while True: pass"),
    ):
        served = LoadedServer(url=mock.url, model="mock", vocab_size=100, pids=(server,))
        disturbed = run_load(
            served,
            Load.parse("pp8:tg2:c1"),
            Measuring(budget_s=30.0, left_s=left_s, requests=10),
            tell=told.append,
            clock=iter([0.0, 10.0]).__next__,
        )
    assert isinstance(disturbed, Point)
    assert disturbed.void.startswith("other programs used ")
    assert told == ["steady", "ended"] * times
