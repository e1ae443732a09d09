"""The cache in a live PostgreSQL: many writers, migrations that race, connections that break, what a reader may see."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

import calibration.cache.migrations
from benchmarks.shared.postgresql import Server
from calibration.cache import statements
from calibration.cache.cache import Cache, Health
from calibration.cache.migrations import LOCK, upgrade
from calibration.cache.rows.launch_rows import row
from calibration.cache.sqlite_file import VERSION
from calibration.errors import CacheError, CacheRefused, CacheUnreachable
from calibration.measurement import Outcome
from tests.calibration.launches import IDENTITY, KEY, measured

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


@pytest.fixture
def bare(postgresql: Server) -> Iterator[str]:
    """The URL of a database that nobody has opened as a cache."""
    with postgresql.database() as name:
        yield postgresql.url(name)


def writer(url: str, first: int, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(HERE / "cache_writer.py"), url, str(first), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
def test_processes_that_find_no_tables_make_them_once_and_lose_nothing(bare: str) -> None:
    writers = [writer(bare, 100 * n, 100) for n in range(6)]
    said = [w.communicate(timeout=300) for w in writers]
    assert [(w.returncode, stderr) for w, (_, stderr) in zip(writers, said, strict=True)] == [(0, "")] * 6
    with Cache.open(bare) as cache:
        assert list(cache.all()) == [measured(n) for n in range(600)]
        assert cache.check() == Health(rows=600, unreadable={}, damage=())


def test_a_migration_waits_for_whoever_migrates(bare: str) -> None:
    opened: list[str] = []

    def open_it() -> None:
        with Cache.open(bare) as cache:
            opened.append(cache.location)

    with psycopg.connect(bare) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        thread = threading.Thread(target=open_it)
        thread.start()
        thread.join(0.5)
        assert opened == []
        other.rollback()
        thread.join(30)
    assert len(opened) == 1


def test_tables_that_are_up_to_date_take_no_lock(database: str) -> None:
    with psycopg.connect(database) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        Cache.open(database).close()


def test_an_older_database_is_brought_up_to_date(bare: str) -> None:
    """As version 0006 left it, with a launch."""
    engine = sqlalchemy.create_engine(bare.replace("postgresql:", "postgresql+psycopg:"))
    config = Config()
    config.set_main_option("script_location", str(Path(calibration.cache.migrations.__file__).parent))
    config.attributes["version_table"] = "autobackend_version"
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        assert statements.insert(connection, [row(measured(1))]) == 1
    with Cache.open(bare) as cache:
        assert list(cache.all()) == cache.newest(1) == [measured(1)]
        cache.add(measured(2))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0006")
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM launches")).scalar() == 2
    upgrade(engine, "here")
    engine.dispose()
    with Cache.open(bare) as cache:
        assert list(cache.all()) == [measured(1), measured(2)]


def test_a_newer_database_is_left_alone(database: str, postgresql: Server) -> None:
    with Cache.open(database) as cache:
        location = cache.location
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE autobackend_version SET version_num = '0917'")
    with pytest.raises(CacheError) as caught:
        Cache.open(database)
    assert (caught.value.message, caught.value.mend) == (
        f"the cache {location} has version 0917; this autobackend knows {VERSION} and older",
        "upgrade autobackend: pip install --upgrade autobackend",
    )


def test_the_token_is_the_same_until_a_commit(database: str) -> None:
    with Cache.open(database) as cache, psycopg.connect(database) as other:
        cache.add(measured(1))
        before = cache.token()
        other.execute("DELETE FROM launches")
        assert (cache.token(), len(cache.find(**KEY))) == (before, 1)
        other.commit()
        assert cache.token() != before
        assert cache.find(**KEY) == []


def test_writers_that_commit_at_once_do_not_wait_for_each_other(database: str) -> None:
    """A session counts in the row of its number: a transaction that stays open holds up those of its own row alone."""
    with psycopg.connect(database) as slow, Cache.open(database) as cache:
        place = slow.execute("SELECT pg_backend_pid() % 64").fetchone()
        slow.execute("UPDATE launches SET model = 'x' WHERE run_id = 'nobody'")
        others = 0
        for _ in range(5):
            with psycopg.connect(database) as quick:
                if quick.execute("SELECT pg_backend_pid() % 64").fetchone() != place:
                    quick.execute("SET lock_timeout = '2s'")
                    quick.execute("DELETE FROM probes")
                    quick.commit()
                    others += 1
        slow.rollback()
        assert (cache.add(measured(1)), others > 0) == (1, True)


def test_a_connection_that_the_server_ends_is_made_anew(database: str, postgresql: Server) -> None:
    name = database.rpartition("/")[2]
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    with Cache.open(database) as cache:
        cache.add(measured(1))
        postgresql.run(cut)
        assert cache.add(measured(2)) == 1
        postgresql.run(cut)
        assert cache.find(**KEY) == [measured(1), measured(2)]
        postgresql.run(cut)
        assert cache.token() == cache.token()


def test_a_server_that_goes_away_is_waited_for_and_then_it_is_said(database: str, postgresql: Server) -> None:
    """Nobody is let in for a while: what is measured is written when the server is there again."""
    name, said = database.rpartition("/")[2], list[str]()
    with Cache.open(database, notify=said.append) as cache:
        cache.add(measured(1))

        def close_the_door() -> None:
            postgresql.run(
                f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            )

        close_the_door()
        opening = threading.Timer(1.5, postgresql.run, [f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"])
        opening.start()
        try:
            assert cache.add(measured(2)) == 1
        finally:
            opening.join()
        assert list(cache.all()) == [measured(1), measured(2)]
        assert len(said) == 1
        assert said[0].endswith("; it is tried again for 30 s")
        cache._database._patience_s = 0.3  # type: ignore[union-attr]
        close_the_door()
        began = time.monotonic()
        with pytest.raises(CacheUnreachable):
            cache.add(measured(3))
        assert time.monotonic() - began < 5
        postgresql.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert cache.add(measured(3)) == 1


def test_two_that_insert_the_same_rows_at_once_both_end(database: str) -> None:
    launches = [measured(number) for number in range(400)]
    added: list[int] = []

    def work(part: list[Outcome]) -> None:
        with Cache.open(database) as cache:
            added.append(cache.add(*part))

    threads = [threading.Thread(target=work, args=(part,)) for part in (launches, launches[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Cache.open(database) as cache:
        assert (sum(added), list(cache.all())) == (400, launches)


def test_long_names_are_kept_whole(database: str) -> None:
    long = replace(IDENTITY, device="NVIDIA " + "x" * 5000, host="h" * 300)
    with Cache.open(database) as cache:
        cache.add(measured(1, identity=long))
        assert cache.find(**KEY | {"device": long.device}) == [measured(1, identity=long)]


def test_a_user_who_may_only_read(database: str, postgresql: Server) -> None:
    name, role = database.rpartition("/")[2], f"reader_{os.getpid()}"
    with Cache.open(database) as cache:
        cache.add(measured(1))
    postgresql.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        database=name,
    )
    url = postgresql.url(name, user=role, password="secret")
    try:
        with Cache.open(url) as cache:
            assert cache.find(**KEY) == list(cache.all()) == [measured(1)]
            assert cache.token() == cache.token()
            with pytest.raises(CacheRefused) as caught:
                cache.add(measured(2))
        assert caught.value.message == (
            f"the cache {cache.location} does not allow {role} to do this: permission denied for table launches"
        )
        assert caught.value.mend == (
            f"let its owner run: GRANT SELECT, INSERT, DELETE ON launches, probes TO {role}; GRANT SELECT, UPDATE ON"
            f" changes TO {role}; GRANT SELECT ON autobackend_version TO {role}"
        )
        for grant in caught.value.mend.removeprefix("let its owner run: ").split("; "):
            postgresql.run(grant, database=name)
        with Cache.open(url) as cache:
            assert (cache.add(measured(2)), cache.delete([measured(2).run_id])) == (1, 1)
    finally:
        postgresql.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=name)


def test_a_user_who_may_not_make_tables(bare: str, postgresql: Server) -> None:
    role = f"nobody_{os.getpid()}"
    name = bare.rpartition("/")[2]
    postgresql.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", "REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=name
    )
    url = postgresql.url(name, user=role, password="secret")
    try:
        with pytest.raises(CacheRefused) as caught:
            Cache.open(url)
        assert f" does not allow {role} to make or change its tables: permission denied for schema public" in str(
            caught.value
        )
        assert caught.value.mend == "let the owner of the database open it once: autobackend cache path --cache URL"
        with Cache.open(bare) as cache:
            cache.add(measured(1))
        with pytest.raises(CacheRefused, match=r"does not allow .* to do this: permission denied for table") as caught:
            Cache.open(url)
        assert caught.value.mend.startswith("let its owner run: GRANT SELECT, ")
        postgresql.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", database=name)
        with Cache.open(url) as cache:
            assert cache.find(**KEY) == [measured(1)]
    finally:
        postgresql.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}", database=name)


def test_a_read_only_replica_is_read_and_says_that_it_is_one(database: str, postgresql: Server) -> None:
    with Cache.open(database) as cache:
        cache.add(measured(1))
    with Cache.open(f"{database}?options=-cdefault_transaction_read_only%3Don") as cache:
        assert cache.find(**KEY) == [measured(1)]
        with pytest.raises(CacheRefused, match=r" is read-only: cannot execute INSERT in a read-only transaction\n"):
            cache.add(measured(2))
