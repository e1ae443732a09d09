"""What is wrong with a file is said, and nothing is lost."""

import re
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

import calibration.cache.migrations
from calibration.cache.cache import Cache, Health
from calibration.cache.sqlite_file import VERSION
from calibration.errors import CacheError
from tests.calibration.launches import KEY, failed, measured


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder" / "cache.db"


@pytest.fixture
def cache(path: Path) -> Iterator[Cache]:
    with Cache.open(path) as cache:
        yield cache


def refusal(where: Path | str) -> tuple[str, str]:
    with pytest.raises(CacheError) as caught:
        Cache.open(where)
    return caught.value.message, caught.value.mend


def test_the_newest_migration_is_the_version_that_is_known() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(calibration.cache.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [VERSION]


def test_a_cache_of_a_newer_version_is_left_alone(cache: Cache, path: Path) -> None:
    cache.add(measured(1))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE autobackend_version SET version_num = '0917'")
    connection.close()
    message = f"the cache {path} has version 0917; this autobackend knows {VERSION} and older"
    assert refusal(path) == (message, "upgrade autobackend: pip install --upgrade autobackend")
    cache.close()
    with pytest.raises(CacheError, match=re.escape(message)):
        cache.add(measured(2))


def test_another_programs_file_is_left_alone(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    assert refusal(path) == (
        f"{path} is an SQLite file of another program (tables bookmarks)",
        "name another with --cache or AUTOBACKEND_CACHE",
    )


def test_a_directory(tmp_path: Path) -> None:
    mend = f"name a file: --cache {tmp_path / 'cache.db'}"
    assert refusal(tmp_path) == (f"the cache {tmp_path} is a directory", mend)


def test_a_device_and_a_folder_that_is_a_file(tmp_path: Path) -> None:
    assert refusal("/dev/null")[0] == "the cache /dev/null is not a file"
    (tmp_path / "file").touch()
    with Cache.open(tmp_path / "file" / "cache.db") as cache:
        assert cache.find(**KEY) == []
        with pytest.raises(CacheError, match=r"^the cache .*/file/cache\.db cannot be made: "):
            cache.add(measured(1))


@pytest.mark.parametrize(
    "content", [b"not a database at all, but a text\n" * 200, b"SQLite format 3\0" + b"\xff" * 9000]
)
def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    said: list[str] = []
    with Cache.open(path, notify=said.append) as cache:
        assert cache.find(**KEY) == []
        cache.add(measured(1))
        assert cache.find(**KEY) == [measured(1)]
    (sentence,) = said
    found = re.fullmatch(
        rf"the cache {re.escape(str(path))} is corrupt \((file is not a database|database disk image is malformed)\); "
        r"it was set aside as (cache\.db\.corrupt-\d{8}-\d{6}) and a new one is begun",
        sentence,
    )
    assert found is not None
    aside = path.with_name(found[2])
    assert aside.read_bytes() == content


@pytest.mark.parametrize("act", ["find", "all", "check", "add"])
def test_damage_inside_a_file_is_found_when_it_is_met(path: Path, act: str) -> None:
    said: list[str] = []
    with Cache.open(path) as cache:
        cache.add(*map(measured, range(300)))
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xa5" * (path.stat().st_size - 2 * 4096))
    with Cache.open(path, notify=said.append) as cache:
        match act:
            case "find":
                assert cache.find(**KEY) == []
            case "all":
                assert list(cache.all()) == []
            case "check":
                cache.check()
            case "add":
                assert cache.add(measured(1)) == 1
        cache.add(measured(2))
        assert measured(2) in cache.find(**KEY)
    assert len(said) == 1


def test_malformed_rows_are_a_miss_and_counted_by_check(cache: Cache, path: Path) -> None:
    cache.add(*map(measured, range(8)), failed(8))
    spoil = [
        "UPDATE launches SET cells = '[[' WHERE run_id LIKE '%0'",
        "UPDATE launches SET cells = '[[\"pp0:tg1:b1\", []]]' WHERE run_id LIKE '%1'",
        "UPDATE launches SET load_s = 'soon' WHERE run_id LIKE '%2'",
        "UPDATE launches SET started_at = NULL WHERE run_id LIKE '%3'",
        "UPDATE launches SET record = 'rumour' WHERE run_id LIKE '%4'",
        "UPDATE launches SET cells = CAST(x'ff22' AS TEXT) WHERE run_id LIKE '%5'",
        "UPDATE launches SET environment = '[]' WHERE run_id LIKE '%6'",
        "UPDATE launches SET kind = 'bored' WHERE run_id LIKE '%8'",
    ]
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
    connection.close()
    with sqlite3.connect(path) as connection:
        for statement in spoil:
            assert connection.execute(statement).rowcount == 1
    connection.close()
    assert cache.find(**KEY) == list(cache.all()) == [measured(7)]
    found = cache.check()
    assert (found.rows, sorted(int(run_id) for run_id in found.unreadable), found.healthy) == (
        9,
        [0, 1, 2, 3, 4, 5, 6, 8],
        False,
    )
    assert found.unreadable[measured(1).run_id] == "pp0:tg1:b1 has no samples"


def test_a_read_only_file_is_read_and_not_written(ordinary_user: Path) -> None:
    path = ordinary_user / "cache.db"
    with Cache.open(path) as cache:
        cache.add(measured(1))
    path.chmod(0o444)
    ordinary_user.chmod(0o555)
    with Cache.open(path) as cache:
        assert cache.find(**KEY) == list(cache.all()) == [measured(1)]
        assert cache.check().healthy
        with pytest.raises(CacheError) as caught:
            cache.add(measured(2))
        assert caught.value.message == f"the cache {path} is read-only"
        assert caught.value.mend == (
            "make it and its folder writable, or name another with --cache or AUTOBACKEND_CACHE"
        )
        with pytest.raises(CacheError, match="is read-only"):
            cache.delete([measured(1).run_id])
    assert sorted(ordinary_user.iterdir()) == [path]


def test_a_read_only_corrupt_file_counts_as_empty(ordinary_user: Path) -> None:
    path, said = ordinary_user / "cache.db", list[str]()
    path.write_bytes(b"no database" * 100)
    path.chmod(0o444)
    ordinary_user.chmod(0o555)
    with Cache.open(path, notify=said.append) as cache:
        assert said == [f"the cache {path} is corrupt (file is not a database) and read-only: it counts as empty"]
        assert cache.find(**KEY) == []
        with pytest.raises(CacheError, match="is read-only"):
            cache.add(measured(1))


def test_a_file_that_may_not_be_read(ordinary_user: Path) -> None:
    path = ordinary_user / "cache.db"
    path.write_bytes(b"")
    path.chmod(0)
    assert refusal(path)[0] == f"the cache {path} cannot be opened (unable to open database file)"
    ordinary_user.chmod(0)
    assert refusal(path)[0] == f"the cache {path} cannot be read: Permission denied"


def test_a_folder_that_may_not_be_written(ordinary_user: Path) -> None:
    ordinary_user.chmod(0o555)
    for path in (ordinary_user / "cache.db", ordinary_user / "new" / "cache.db"):
        with Cache.open(path) as cache:
            assert cache.find(**KEY) == []
            with pytest.raises(CacheError, match=r"^the cache .* cannot be (made|opened)"):
                cache.add(measured(1))


def test_a_full_disk_loses_nothing(cache: Cache, path: Path) -> None:
    cache.add(measured(1))
    cache.close()

    def limit(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 8")

    event.listen(Engine, "connect", limit)
    try:
        with pytest.raises(CacheError) as caught:
            cache.add(*map(measured, range(2, 100)))
    finally:
        event.remove(Engine, "connect", limit)
    assert caught.value.message == f"the cache {path} cannot be written: the disk is full"
    assert list(cache.all()) == [measured(1)]
    assert cache.add(measured(2)) == 1
    assert cache.check() == Health(rows=2, unreadable={}, damage=())


def test_a_quota_met_in_the_middle_of_a_write_loses_nothing(cache: Cache, path: Path) -> None:
    cache.add(measured(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CacheError, match=r"cannot be used \(disk I/O error\)"):
            cache.add(*map(measured, range(2, 1000)))
        assert list(cache.all()) == [measured(1)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.add(measured(2)) == 1
    assert cache.check() == Health(rows=2, unreadable={}, damage=())
