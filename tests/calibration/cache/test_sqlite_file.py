"""The cache as a file: where it is, what it leaves on the disk, and what a fresh process needs to read it."""

import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from calibration.cache.cache import Cache
from calibration.cache.sqlite_file import on_network
from tests.calibration.launches import KEY, measured

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "cache.db"


@pytest.fixture
def cache(path: Path) -> Iterator[Cache]:
    with Cache.open(path) as cache:
        yield cache


def test_pruning_gives_the_space_back(cache: Cache, path: Path) -> None:
    cache.add(*map(measured, range(500)))
    cache.close()
    before = path.stat().st_size
    assert cache.prune(older_than=measured(490).started_at) == 490
    cache.close()
    assert path.stat().st_size < before / 4


def test_a_cache_that_does_not_exist_is_empty_and_is_not_made_by_reading(cache: Cache, path: Path) -> None:
    assert (cache.find(**KEY), list(cache.all()), cache.delete(["x"]), cache.check().rows) == ([], [], 0, 0)
    assert not path.parent.exists()
    cache.add(measured(1))
    assert cache.find(**KEY) == [measured(1)]


def test_an_empty_file_is_an_empty_cache(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    with Cache.open(path) as cache:
        assert cache.find(**KEY) == []
        cache.add(measured(1))
        assert cache.find(**KEY) == [measured(1)]


def test_where_the_cache_is(tmp_path: Path, path: Path) -> None:
    def location(where: Path | str | None) -> str:
        with Cache.open(where) as cache:
            return cache.location

    assert location(None) == os.environ["AUTOBACKEND_CACHE"]
    assert location(path) == location(str(path)) == location(f"sqlite:///{path}") == str(path)
    assert location("~/a/cache.db") == str(Path.home() / "a" / "cache.db")
    assert location("sqlite://") == "sqlite://"


def test_odd_characters_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "50% ü #1?x=y&z" / "my cache.db"
    with Cache.open(path) as cache:
        cache.add(measured(1))
        assert cache.find(**KEY) == [measured(1)]
    assert path.exists()


def test_the_token_changes_when_a_commit_can_be_read_and_not_before(cache: Cache, path: Path) -> None:
    """What was looked up while a commit was on its way to the disk must not pass for what comes after it."""
    cache.add(*map(measured, range(20)))
    log = Path(f"{path}-wal")
    before, size = cache.token(), log.stat().st_size
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE launches SET model = hex(zeroblob(100000))")
        assert log.stat().st_size > size
        assert (cache.token(), len(cache.find(**KEY))) == (before, 20)
        writer.execute("COMMIT")
        assert cache.token() != before


def test_a_lookup_in_a_fresh_process_imports_no_sqlalchemy(cache: Cache, path: Path) -> None:
    cache.add(measured(1))
    code = (
        "import sys; from calibration.cache.cache import Cache; cache = Cache.open(sys.argv[1]);"
        "print(len(cache.find(architecture=sys.argv[2], quant=sys.argv[3], device=sys.argv[4])));"
        "print(sorted(sys.modules.keys() & {'sqlalchemy', 'alembic', 'numpy', 'torch', 'transformers'}))"
    )
    command = [sys.executable, "-c", code, str(path), *KEY.values()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n[]\n"


def test_a_file_on_a_local_disk_has_a_write_ahead_log_and_one_on_a_network_none(tmp_path: Path, path: Path) -> None:
    with Cache.open(path) as cache:
        cache.add(measured(1))
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nserver:/x /home nfs4 rw 0 0\n/dev/sdb /home/local ext4 rw 0 0\n"
        "//nas/y /mnt/my\\040share cifs rw 0 0\nsshfs /mnt/far fuse.sshfs rw 0 0\n"
    )
    asked = ["/root/c", "/home/me/c", "/home/local/c", "/homes/c", "/mnt/my share/c", "/mnt/far/c"]
    assert [on_network(Path(p), mounts) for p in asked] == [False, True, False, False, True, True]


def test_nothing_is_left_open(path: Path) -> None:
    with Cache.open(path) as cache:
        cache.add(measured(1))
        cache.find(**KEY)
        next(cache.all())
    gc.collect()
    opened = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    assert [name for name in opened if str(path) in name] == []
    assert [p.name for p in path.parent.iterdir()] == ["cache.db"]
