"""A snapshot: launches in one SQLite file that is only read, as a container image or a ConfigMap carries it."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from calibration.cache import statements
from calibration.cache.database import FileDatabase
from calibration.cache.rows import launch_rows, probe_rows
from calibration.cache.sqlite_file import SQLiteFile
from calibration.errors import CacheError
from calibration.measurement import Outcome
from calibration.probing.probe import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection

TABLE: Final = "snapshot"
"""Its one row tells when the file was made, and of which cache."""

MODE: Final = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was written."""

    launches: int
    probes: int
    bytes: int


def write_snapshot(
    path: Path, source: str, outcomes: Iterable[Outcome], probes: Iterable[Probe], *, of_all_hosts: bool
) -> Snapshot:
    """Write the file whole or not at all: who reads it meanwhile finds the old one or the new one.

    It has no write-ahead log and needs none beside it, so a read-only file system serves it as it is.

    Args:
        source: where the launches are from, without a password.
        of_all_hosts: write all probes; else those of the launches' hosts.

    Raises:
        CacheError: the file cannot be written, or there is one that is no snapshot.
    """
    _refuse_another(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise _not_written(path, error) from error
    os.close(handle)
    unfinished = Path(name)
    try:
        launches, count = _fill(unfinished, outcomes, probes, of_all_hosts=of_all_hosts)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute(f"CREATE TABLE {TABLE} (made_at REAL NOT NULL, source TEXT NOT NULL)")
            connection.execute(f"INSERT INTO {TABLE} VALUES (?, ?)", (time.time(), source))  # noqa: S608  a constant
            connection.execute("VACUUM")
        unfinished.chmod(MODE)
        size_bytes = unfinished.stat().st_size
        unfinished.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise _not_written(path, error) from error
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(f"{unfinished}{ending}").unlink(missing_ok=True)
    return Snapshot(launches=launches, probes=count, bytes=size_bytes)


def _fill(path: Path, outcomes: Iterable[Outcome], probes: Iterable[Probe], *, of_all_hosts: bool) -> tuple[int, int]:
    """Add launches, and the probes of their hosts, in one transaction; returns how many of each."""
    file, remaining = SQLiteFile(path, lambda _: None), iter(outcomes)
    database = FileDatabase(file)

    def work(connection: "Connection") -> tuple[int, int]:
        launches, hosts = 0, set[str]()
        while chunk := list(islice(remaining, statements.CHUNK)):
            launches += statements.insert(connection, [launch_rows.row(outcome) for outcome in chunk])
            hosts.update(outcome.identity.host for outcome in chunk)
        kept = [probe_rows.row(probe) for probe in probes if of_all_hosts or probe.host in hosts]
        return launches, statements.insert_probes(connection, kept)

    try:
        return database.write(work, again=False)
    finally:
        database.close()
        file.close()


def _refuse_another(path: Path) -> None:
    """Raise CacheError where a file is there that somebody may miss: a cache, or what is no cache at all."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            is_snapshot = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone()
    except sqlite3.Error:
        is_snapshot = None
    if not is_snapshot:
        raise CacheError(f"{path} is there and is no snapshot", "name another file, or remove it")


def _not_written(path: Path, error: Exception) -> CacheError:
    reason = getattr(error, "strerror", None) or error
    return CacheError(f"the snapshot {path} cannot be written: {reason}", "name a file in a folder that you may write")
