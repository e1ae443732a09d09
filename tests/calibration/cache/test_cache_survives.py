"""The cache under many writers and under kill -9."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.cache.cache import Cache, Health
from calibration.cache.sqlite_file import SQLiteFile
from tests.calibration.launches import measured

HERE = Path(__file__).parent
PATHS = os.pathsep.join([str(HERE.parents[2]), str(HERE.parent)])


def writer(cache: Path | str, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "cache_writer.py"), str(cache), str(first), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": PATHS},
    )


@pytest.mark.slow
def test_four_processes_write_a_thousand_rows_each_into_a_cache_that_none_of_them_finds(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    writers = [writer(path, 1000 * n, 1000) for n in range(4)]
    said = [w.communicate(timeout=300)[0].split() for w in writers]
    assert [w.returncode for w in writers] == [0, 0, 0, 0]
    assert [len(lines) for lines in said] == [1001] * 4
    with Cache.open(path) as cache:
        assert list(cache.all()) == [measured(n) for n in range(4000)]
        assert cache.check() == Health(rows=4000, unreadable={}, damage=())


@pytest.mark.slow
def test_a_killed_writer_loses_no_committed_row(place: str) -> None:
    draw, committed = random.Random(0), set[str]()
    for kill in range(20):
        with writer(place, 10_000 * kill, 10_000) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            # Killed somewhere inside the next commit, or in the middle of making the file.
            committed.update(process.stdout.readline().strip() for _ in range(draw.randrange(12)))
            process.kill()
            committed.update(line.strip() for line in process.stdout if line.endswith("\n"))
        with Cache.open(place) as cache:
            found = {o.run_id for o in cache.all()}
            assert committed <= found
            # At most the one that was committed and not yet said.
            assert len(found) <= len(committed) + 1 + kill
            assert cache.check().healthy
    assert len(committed) > 50


@pytest.mark.slow
def test_a_writer_killed_while_it_makes_the_file_leaves_one_that_the_next_completes(tmp_path: Path) -> None:
    draw = random.Random(1)
    for kill in range(6):
        path = tmp_path / f"{kill}.db"
        with writer(path, 0, 1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(draw.uniform(0.1, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
        with Cache.open(path) as cache:
            cache.add(measured(0), measured(1))
            assert list(cache.all()) == [measured(0), measured(1)]
            assert cache.check().healthy


def test_a_file_that_another_process_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with Cache.open(path) as cache, Cache.open(path) as other:
        cache.add(measured(1))
        assert list(other.all()) == [measured(1)]
        cache.close()
        path.unlink()
        assert list(other.all()) == []
        cache.add(measured(2))
        assert list(other.all()) == [measured(2)]
        other.add(measured(3))
        assert list(cache.all()) == [measured(2), measured(3)]


def test_only_the_first_to_see_a_corrupt_file_sets_it_aside(tmp_path: Path) -> None:
    path, said = tmp_path / "cache.db", list[str]()
    with Cache.open(path) as cache:
        cache.add(*map(measured, range(200)))
    late = SQLiteFile(path, said.append)
    assert late.ready()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 20)
    with Cache.open(path, notify=said.append) as cache:
        assert list(cache.all()) == []
        cache.add(measured(1))
        assert list(late.scan("SELECT run_id FROM launches", {})) == [(measured(1).run_id,)]
    late.close()
    assert len(said) == 1


def test_a_forked_child_reads_and_writes_on_connections_of_its_own(place: str) -> None:
    with Cache.open(place) as cache:
        cache.add(measured(1))
        assert len(list(cache.all())) == 1
        child = os.fork()
        if child == 0:
            cache.add(measured(2))
            os._exit(len(list(cache.all())))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert list(cache.all()) == [measured(1), measured(2)]
        cache.add(measured(3))
        assert cache.check() == Health(rows=3, unreadable={}, damage=())
