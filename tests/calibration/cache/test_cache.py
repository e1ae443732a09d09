"""The cache keeps what it is given and answers by key."""

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.cache.cache import Cache, Health
from calibration.cache.sqlite_file import on_network
from calibration.errors import UsageError
from calibration.measurement import Agreement, Outcome, OutputVerdict, from_json, to_json
from tests.calibration.launches import CUT, IDENTITY, KEY, checked, failed, measured, served, unserved

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "cache.db"


@pytest.fixture
def cache(path: Path) -> Iterator[Cache]:
    with Cache.open(path) as cache:
        yield cache


def test_what_goes_in_comes_out(cache: Cache) -> None:
    outcomes: list[Outcome] = [
        measured(1),
        measured(2, prepare_s=None, artifact_bytes=None, gpu_memory_bytes=1 << 40),
        measured(3, agreement=Agreement(verdict=OutputVerdict.UNCHECKED, detail="no reference")),
        failed(4),
        checked(5),
        measured(6, identity=replace(IDENTITY, config="")),
        measured(7, identity=CUT),
    ]
    assert cache.add(*outcomes) == 7
    assert cache.find(**KEY, cut=None) == outcomes
    assert list(cache.all()) == outcomes


def test_what_json_and_a_database_cannot_hold_is_replaced(cache: Cache, tmp_path: Path) -> None:
    infinite = Agreement(verdict=OutputVerdict.WRONG, kl=float("inf"), top1=0.0, detail="never the same token")
    cache.add(measured(1, agreement=infinite), failed(2, log_tail="a\udcffb\0c"), checked(3, agreement=infinite))
    none = replace(infinite, kl=None)
    expected = [measured(1, agreement=none), failed(2, log_tail="a?b\ufffdc"), checked(3, agreement=none)]
    assert list(cache.all()) == expected
    assert from_json(to_json(measured(1, agreement=infinite))) == expected[0]
    assert from_json(to_json(checked(3, agreement=infinite))) == expected[2]


def test_what_was_served_is_found_apart(cache: Cache) -> None:
    """A selection for a batch does not read the raw samples of loads."""
    static: list[Outcome] = [measured(1), failed(3)]
    under_load: list[Outcome] = [served(2), unserved(4)]
    cache.add(*static, *under_load)
    assert cache.find(**KEY) == static
    assert cache.find_served(**KEY, fingerprint=IDENTITY.fingerprint) == under_load
    assert list(cache.all()) == sorted([*static, *under_load], key=lambda o: o.started_at)
    assert cache.check() == Health(rows=4, unreadable={}, damage=())


def test_points_that_are_not_readable_are_left_out(cache: Cache, path: Path) -> None:
    cache.add(served(1), served(2))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE launches SET points = 'nonsense' WHERE run_id = ?", (served(1).run_id,))
    assert cache.find_served(**KEY, fingerprint=IDENTITY.fingerprint) == [served(2)]
    assert list(cache.check().unreadable) == [served(1).run_id]


def test_a_sample_that_is_no_number_is_refused_and_nothing_stored(cache: Cache) -> None:
    cell = measured(2).cells[0]
    bad = replace(cell, samples=(replace(cell.samples[0], ttft_s=float("nan")),))
    with pytest.raises(ValueError, match="Out of range float"):
        cache.add(measured(1), measured(2, cells=(bad,)))
    assert list(cache.all()) == []


def test_launches_that_are_known_are_left_alone(cache: Cache) -> None:
    assert cache.add(measured(1), measured(2), measured(1)) == 2
    assert cache.add(measured(2, model="renamed"), measured(3)) == 1
    assert cache.add() == 0
    assert list(cache.all()) == [measured(1), measured(2), measured(3)]


def test_find_asks_for_the_key_and_perhaps_the_size(cache: Cache) -> None:
    larger = replace(IDENTITY, fingerprint="ffffffffffff", host="other")
    others = [
        replace(IDENTITY, architecture="other"),
        replace(IDENTITY, quant="other"),
        replace(IDENTITY, device="other"),
    ]
    cache.add(measured(2), measured(1, identity=larger), *(measured(3 + i, identity=o) for i, o in enumerate(others)))
    assert cache.find(**KEY) == [measured(1, identity=larger), measured(2)]
    assert cache.find(**KEY, fingerprint="ffffffffffff") == [measured(1, identity=larger)]
    assert cache.find(**KEY | {"quant": "awq-4bit-g128"}) == []


def test_find_asks_for_the_whole_model_or_a_depth(cache: Cache) -> None:
    whole, shallow, deeper = measured(1), measured(2, identity=CUT), measured(3, identity=replace(IDENTITY, cut="9/30"))
    cache.add(whole, shallow, deeper)
    assert cache.find(**KEY) == [whole]
    assert cache.find(**KEY, fingerprint=IDENTITY.fingerprint, cut="3/30") == [shallow]
    assert cache.find(**KEY, cut=None) == [whole, shallow, deeper]


def test_all_filters_by_column_and_age(cache: Cache) -> None:
    cache.add(measured(1), measured(2), failed(3))
    assert list(cache.all(backend="pytorch")) == [failed(3)]
    assert list(cache.all(backend="transformers", older_than=measured(2).started_at)) == [measured(1)]
    with pytest.raises(
        UsageError, match=r"^the cache has no column gpu, size\nknown are: run_id, calibration_id, round"
    ):
        list(cache.all(size=1, gpu="A100"))


def test_the_newest_are_those_that_were_added_last(cache: Cache) -> None:
    assert cache.newest(3) == []
    launches = [replace(measured(number), started_at=100.0 - number) for number in range(5)]
    cache.add(*launches)
    assert cache.newest(3) == [launches[4], launches[3], launches[2]]
    assert cache.newest(9) == launches[::-1]


def test_delete_and_prune(cache: Cache) -> None:
    old = {"torch": "2.12.0", "transformers": "5.23.0"}
    cache.add(*map(measured, range(6)), measured(6, environment=old), failed(7))
    assert cache.delete([measured(0).run_id, "unknown"]) == 1
    assert cache.prune(older_than=measured(2).started_at) == 1
    assert cache.prune(environment={"torch": "2.12.0"}) == 1
    assert cache.prune(host=IDENTITY.host, backend="pytorch") == 1
    assert list(cache.all()) == [measured(n) for n in (2, 3, 4, 5)]
    with pytest.raises(UsageError, match=r"^needs what to prune: an age, a host or an environment; found nothing"):
        cache.prune()


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


def test_a_database_named_by_a_url_is_reached_through_sqlalchemy() -> None:
    with Cache.open("sqlite:///:memory:") as cache:
        assert cache.find(**KEY) == []
        cache.add(measured(1), failed(2))
        assert cache.find(**KEY) == list(cache.all()) == [measured(1), failed(2)]
        assert cache.delete([failed(2).run_id]) == 1
        assert cache.check() == Health(rows=1, unreadable={}, damage=())
        assert cache.token() != cache.token()


def test_the_token_changes_with_every_commit_of_anyone(cache: Cache, path: Path) -> None:
    tokens = [cache.token(), cache.token()]
    assert tokens[0] == tokens[1]
    with Cache.open(path) as other:
        for number in range(5):
            (cache if number % 2 else other).add(measured(number))
            tokens.append(cache.token())
            assert tokens[-1] == cache.token()
    assert len(set(tokens[1:])) == 6


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


def test_threads_share_a_cache(cache: Cache) -> None:
    cache.add(*map(measured, range(20)))
    found: list[int] = []

    def work(first: int) -> None:
        for number in range(first, first + 10):
            cache.add(measured(number))
            found.append(len(cache.find(**KEY)))

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert max(found) == len(list(cache.all())) == 60


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
