"""A cache that an older autobackend wrote opens: its times count for whole models, its verdicts belong to no config.

tests/data/caches/version-0001.sql is the dump of a cache of version 0001, filled by the autobackend of 2026-11-27 with
the launches of smollm2-135m on one of the hosts in results/.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from calibration.cache.cache import Cache, Health
from calibration.cache.sqlite_file import VERSION
from calibration.measurement import Answered, Failure, Measurement, OutputVerdict
from tests.calibration.launches import checked, measured, served

DUMP = Path(__file__).parents[2] / "data" / "caches" / "version-0001.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "cache.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP.read_text(encoding="utf-8"))
    return path


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM autobackend_version").fetchone()[0])


def test_all_its_launches_are_read(old: Path) -> None:
    assert version(old) == "0001"
    with Cache.open(old) as cache:
        launches = list(cache.all())
        assert cache.check() == Health(rows=21, unreadable={}, damage=())
    assert version(old) == VERSION
    assert Counter(map(type, launches)) == {Measurement: 20, Failure: 1}
    assert {(o.identity.config, o.identity.cut) for o in launches} == {("", "")}
    assert {o.agreement.verdict for o in launches if isinstance(o, Answered)} == {
        OutputVerdict.RIGHT,
        OutputVerdict.LOSSY,
    }


def test_it_takes_new_launches_and_opens_again(old: Path) -> None:
    with Cache.open(old) as cache:
        cache.add(measured(1), checked(2), served(3))
    with Cache.open(old) as cache:
        assert [o for o in cache.all() if o.identity.config] == [measured(1), checked(2), served(3)]
        assert cache.check().rows == 24
