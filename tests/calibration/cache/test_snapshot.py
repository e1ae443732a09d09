"""A snapshot: one SQLite file with everything in it, written whole or not at all, never over what somebody may miss."""

import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache, Snapshot
from calibration.cache.snapshot import write_snapshot
from calibration.errors import CacheError
from calibration.measurement import Outcome
from tests.calibration.launches import IDENTITY, failed, measured, served
from tests.calibration.probes import GIVEN, probed


def test_it_holds_what_the_cache_does(cache: Cache, tmp_path: Path) -> None:
    launches: list[Outcome] = [measured(1), failed(2), served(3), *(measured(n) for n in range(4, 1000))]
    cache.add(*launches)
    cache.add_probe(probed(1))
    before = time.time()
    written = cache.snapshot(tmp_path / "fleet.db")
    file = tmp_path / "fleet.db"
    assert written == Snapshot(launches=999, probes=1, bytes=file.stat().st_size)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    with Cache.open(file) as opened:
        assert list(opened.all()) == launches
        assert opened.probes() == [probed(1)]
        assert opened.check().healthy
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        [(made_at, source)] = connection.execute("SELECT made_at, source FROM snapshot")
    assert before <= made_at <= time.time()
    assert source == cache.location
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".fleet", "fleet"))] == ["fleet.db"]


def test_some_of_it(cache: Cache, tmp_path: Path) -> None:
    cache.add(measured(1), measured(2, model="other", identity=replace(IDENTITY, host="elsewhere")))
    cache.add_probe(GIVEN)
    cache.add_probe(probed(2, host="elsewhere"))
    cache.snapshot(tmp_path / "fleet.db", model="other")
    with Cache.open(tmp_path / "fleet.db") as opened:
        assert [launch.model for launch in opened.all()] == ["other"]
        assert opened.probes() == [probed(2, host="elsewhere")]


def test_of_nothing_it_is_an_empty_cache(cache: Cache, tmp_path: Path) -> None:
    assert cache.snapshot(tmp_path / "fleet.db").launches == 0
    with Cache.open(tmp_path / "fleet.db") as opened:
        assert (list(opened.all()), opened.probes()) == ([], [])


def test_an_older_one_is_replaced_while_it_is_read(cache: Cache, tmp_path: Path) -> None:
    cache.add(measured(1))
    cache.snapshot(tmp_path / "fleet.db")
    with Cache.open(tmp_path / "fleet.db") as reader:
        assert list(reader.all()) == [measured(1)]
        cache.add(measured(2))
        cache.snapshot(tmp_path / "fleet.db")
        assert list(reader.all()) == [measured(1), measured(2)]


@pytest.mark.parametrize("kind", ["cache", "text"])
def test_what_is_no_snapshot_is_left_alone(cache: Cache, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mine"
    if kind == "cache":
        with Cache.open(file) as mine:
            mine.add(measured(9))
    else:
        file.write_text("my letters")
    before = file.read_bytes()
    with pytest.raises(CacheError) as caught:
        cache.snapshot(file)
    assert (caught.value.message, caught.value.mend) == (
        f"{file} is there and is no snapshot",
        "name another file, or remove it",
    )
    assert file.read_bytes() == before


def test_a_folder_that_is_not_there(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(
        CacheError, match=r"^the snapshot .*/none/fleet\.db cannot be written: No such file or directory"
    ):
        cache.snapshot(tmp_path / "none" / "fleet.db")


def test_one_that_breaks_off_leaves_the_old_one(cache: Cache, tmp_path: Path) -> None:
    cache.add(measured(1))
    cache.snapshot(tmp_path / "fleet.db")

    def broken() -> Iterator[Outcome]:
        yield from map(measured, range(500))
        raise CacheError("the server went away")

    with pytest.raises(CacheError, match="the server went away"):
        write_snapshot(tmp_path / "fleet.db", "here", broken(), [], of_all_hosts=True)
    with Cache.open(tmp_path / "fleet.db") as opened:
        assert list(opened.all()) == [measured(1)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".fleet")] == []
