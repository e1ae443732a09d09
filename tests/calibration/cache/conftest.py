"""Every cache test that is not about a file runs on an SQLite file and on a live PostgreSQL."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import calibration.cache.migrations
from calibration.cache.cache import Cache

Run = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty cache is: a file that is not there yet, or a database with tables."""
    if request.param == "sqlite":
        return str(tmp_path / "new" / "folder" / "cache.db")
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
def cache(place: str) -> Iterator[Cache]:
    """An open cache without rows."""
    with Cache.open(place) as opened:
        yield opened


@pytest.fixture
def run(place: str) -> Run:
    """Does a statement with the cache behind its back, in a transaction; returns its rows."""

    def in_file(statement: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(place)) as connection, connection:
            return connection.execute(statement).fetchall()

    def in_server(statement: str) -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(place) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return in_server if "://" in place else in_file


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of a user whom permissions bind; root gives its privileges up meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="autobackend-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    try:
        if not os.access(calibration.cache.migrations.__file__, os.R_OK, effective_ids=True):
            pytest.skip("needs a checkout that an ordinary user can read; this one is closed to others")
        yield folder
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)
