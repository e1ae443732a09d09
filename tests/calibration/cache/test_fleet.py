"""The fleet's cache below the user's own: what both have is read, what is away is said, and nothing is ever written."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from benchmarks.shared.postgresql import Server
from calibration.cache.cache import Cache
from calibration.cache.fleet import named_fleet
from calibration.cache.lookups import Level
from calibration.cache.sqlite_file import VERSION
from calibration.errors import CacheError
from calibration.measurement import Outcome
from tests.calibration.launches import IDENTITY, KEY, measured, served
from tests.calibration.probes import probed

SERVED_KEY = KEY | {"fingerprint": IDENTITY.fingerprint}


@pytest.fixture(params=["snapshot", "postgresql"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fleet's cache is that has launches 1, 2 and 5, and a probe."""
    launches: list[Outcome] = [measured(1), measured(2), served(5)]
    if request.param == "postgresql":
        url: str = request.getfixturevalue("database")
        with Cache.open(url) as cache:
            cache.add(*launches)
            cache.add_probe(probed(1))
        return url
    with Cache.open(tmp_path / "whole.db") as cache:
        cache.add(*launches)
        cache.add_probe(probed(1))
        cache.snapshot(tmp_path / "fleet.db")
    return str(tmp_path / "fleet.db")


def test_lookups_read_both_and_all_else_the_own_cache_alone(tmp_path: Path, fleet: str) -> None:
    own = [measured(2, model="as the user has it"), measured(3)]
    with Cache.open(tmp_path / "own.db", fleet=fleet) as cache:
        cache.add(*own)
        cache.add_probe(probed(2))
        assert cache.find(**KEY) == [measured(1), *own]
        assert cache.find_served(**SERVED_KEY) == [served(5)]
        assert cache.newest(9) == [measured(1), *own, served(5)]
        assert cache.newest(3) == [*own, served(5)]
        assert cache.probes() == [probed(1), probed(2)]
        assert list(cache.all()) == own
        assert cache.check().rows == 2
        assert cache.delete([measured(1).run_id]) == 0
        assert cache.prune(older_than=measured(3).started_at) == 1
        assert cache.find(**KEY) == [measured(1), measured(2), measured(3)]
    with Cache.open(fleet, fleet="") as below:
        assert list(below.all()) == [measured(1), measured(2), served(5)]


def test_an_own_cache_that_is_not_there_is_not_made(tmp_path: Path, fleet: str) -> None:
    with Cache.open(tmp_path / "none.db", fleet=fleet) as cache:
        assert cache.find(**KEY) == [measured(1), measured(2)]
    assert not (tmp_path / "none.db").exists()


def test_the_token_tells_what_either_writes(tmp_path: Path, database: str) -> None:
    with Cache.open(tmp_path / "own.db", fleet=database) as cache, Cache.open(database) as other:
        cache.add(measured(1))
        before = cache.token()
        assert cache.token() == before
        other.add(measured(2))
        between = cache.token()
        assert between != before
        cache.add(measured(3))
        assert cache.token() not in {before, between}


def test_the_levels_say_where_they_are_and_how_old(tmp_path: Path, fleet: str) -> None:
    def told(level: Level) -> tuple[object, ...]:
        return level.name, level.location, level.made_at is not None

    with Cache.open(tmp_path / "own.db", fleet=fleet) as cache:
        own, below = map(told, cache.levels)
    assert own == ("own", str(tmp_path / "own.db"), False)
    assert (below[0], below[2]) == ("fleet", "://" not in fleet)
    with Cache.open(tmp_path / "own.db") as cache:
        assert [level.name for level in cache.levels] == ["own"]


def test_a_fleet_that_is_not_there_is_said_once_and_comes_back(tmp_path: Path) -> None:
    said, place = list[str](), tmp_path / "fleet.db"
    with Cache.open(tmp_path / "own.db", fleet=place, notify=said.append) as cache:
        cache.add(measured(3))
        before = cache.token()
        assert cache.find(**KEY) == cache.find(**KEY) == [measured(3)]
        assert said == [f"the fleet's cache {place} is not there; answers are without what the fleet measured"]
        with Cache.open(tmp_path / "whole.db", fleet="") as whole:
            whole.add(measured(1))
            whole.snapshot(place)
        assert cache.find(**KEY) == [measured(1), measured(3)]
        assert cache.token() != before
        place.unlink()
        assert cache.find(**KEY) == [measured(3)]
        assert len(said) == 2


def test_a_server_that_is_away_is_said_and_not_waited_for(tmp_path: Path, database: str, postgresql: Server) -> None:
    name, said = database.rpartition("/")[2], list[str]()
    with Cache.open(database) as below:
        below.add(measured(1))
    with Cache.open(tmp_path / "own.db", fleet=database, notify=said.append) as cache:
        cache.add(measured(3))
        assert cache.find(**KEY) == [measured(1), measured(3)]
        postgresql.run(
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        assert cache.find(**KEY) == [measured(3)]
        away = cache.token()
        assert cache.token() == away
        assert len(said) == 1
        assert said[0].endswith("; answers are without what the fleet measured")
        postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert cache.find(**KEY) == [measured(3)], "it is asked again after a while, not each time"
        assert cache._fleet is not None
        cache._fleet._away_until = 0.0
        assert cache.find(**KEY) == [measured(1), measured(3)]
        assert cache.token() != away


def test_a_database_without_tables_is_empty_and_is_left_so(tmp_path: Path, postgresql: Server) -> None:
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    with postgresql.database() as name, Cache.open(tmp_path / "own.db", fleet=postgresql.url(name)) as cache:
        assert cache.find(**KEY) == []
        assert postgresql.run(tables, database=name) == [(0,)]
        with Cache.open(postgresql.url(name), fleet="") as below:
            below.add(measured(1))
        assert cache.find(**KEY) == [measured(1)]


@pytest.mark.parametrize("version", ["0001", "0917"])
def test_another_version_is_said(tmp_path: Path, version: str) -> None:
    said, place = list[str](), tmp_path / "fleet.db"
    with Cache.open(place) as below:
        below.add(measured(1))
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute("UPDATE autobackend_version SET version_num = ?", [version])
    with Cache.open(tmp_path / "own.db", fleet=place, notify=said.append) as cache:
        assert cache.find(**KEY) == []
    sentence = {
        "0001": f"the fleet's cache {place} was made by an older autobackend (version 0001)",
        "0917": f"the cache {place} has version 0917; this autobackend knows {VERSION} and older",
    }[version]
    assert said == [f"{sentence}; answers are without what the fleet measured"]


def test_an_older_database_is_said_and_not_changed(tmp_path: Path, database: str) -> None:
    said = list[str]()
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE autobackend_version SET version_num = '0006'")
    with Cache.open(tmp_path / "own.db", fleet=database, notify=said.append) as cache:
        assert cache.find(**KEY) == []
    assert len(said) == 1
    assert f" has version 0006; this autobackend reads {VERSION}; answers are without" in said[0]


def test_a_corrupt_snapshot_counts_as_empty_and_stays_where_it_is(tmp_path: Path) -> None:
    said, place = list[str](), tmp_path / "fleet.db"
    place.write_bytes(b"no database" * 100)
    with Cache.open(tmp_path / "own.db", fleet=place, notify=said.append) as cache:
        assert cache.find(**KEY) == cache.find(**KEY) == []
    assert said == [f"the cache {place} is corrupt (file is not a database) and read-only: it counts as empty"]
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.db"]


def test_a_snapshot_is_read_from_a_folder_that_nobody_may_write(ordinary_user: Path) -> None:
    """As an image's file system or a ConfigMap is: no file appears beside it."""
    folder = ordinary_user / "etc"
    folder.mkdir()
    with Cache.open(ordinary_user / "whole.db") as cache:
        cache.add(measured(1))
        cache.snapshot(folder / "fleet.db")
    folder.chmod(0o555)
    with Cache.open(ordinary_user / "own.db", fleet=folder / "fleet.db") as cache:
        assert cache.find(**KEY) == [measured(1)]
        assert cache.token() == cache.token()
        assert [path.name for path in folder.iterdir()] == ["fleet.db"]
    with Cache.open(folder / "fleet.db", fleet="") as cache:
        assert list(cache.all()) == [measured(1)]
    folder.chmod(0o755)


def test_a_config_map_that_is_renewed_is_read_anew(tmp_path: Path) -> None:
    """Its files are links into a folder, which is put in the place of the old one as a whole."""
    for number in (1, 2):
        (tmp_path / f"data-{number}").mkdir()
        with Cache.open(tmp_path / f"whole-{number}.db", fleet="") as cache:
            cache.add(measured(number))
            cache.snapshot(tmp_path / f"data-{number}" / "fleet.db")
    (tmp_path / "..data").symlink_to("data-1")
    (tmp_path / "fleet.db").symlink_to("..data/fleet.db")
    with Cache.open(tmp_path / "own.db", fleet=tmp_path / "fleet.db") as cache:
        before = cache.token()
        assert cache.find(**KEY) == [measured(1)]
        (tmp_path / "..new").symlink_to("data-2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        assert cache.token() != before
        assert cache.find(**KEY) == [measured(2)]


def test_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("AUTOBACKEND_CONFIG", str(config))
    assert named_fleet() == ""
    config.write_text('[cache]\nfleet = "shared/fleet.db"\n')
    assert named_fleet() == str(tmp_path / "shared" / "fleet.db")
    config.write_text('[cache]\nfleet = "postgresql://me@db/x"\n')
    os.utime(config, (1, 1))
    assert named_fleet() == "postgresql://me@db/x"
    monkeypatch.setenv("AUTOBACKEND_FLEET_CACHE", "/etc/fleet.db")
    assert named_fleet() == "/etc/fleet.db"
    monkeypatch.setenv("AUTOBACKEND_FLEET_CACHE", "")
    assert named_fleet() == ""
    with Cache.open(tmp_path / "own.db") as cache:
        assert [level.name for level in cache.levels] == ["own"]


@pytest.mark.parametrize(
    ("text", "message"), [("[cache", "cannot be read: "), ("[cache]\nfleet = 3\n", "fleet of cache ")]
)
def test_a_config_file_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("AUTOBACKEND_CONFIG", str(config))
    config.write_text(text)
    with pytest.raises(CacheError, match=message):
        Cache.open(tmp_path / "own.db")


def test_the_same_cache_is_not_read_twice(tmp_path: Path) -> None:
    with Cache.open(tmp_path / "own.db", fleet=tmp_path / "own.db") as cache:
        cache.add(measured(1), replace(measured(2), model="other"))
        assert [level.name for level in cache.levels] == ["own"]
