"""What is written to the cache: an engine for a file, and the statements that add and delete rows."""

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.cache import launch_rows as rows
from calibration.cache import probe_rows
from calibration.cache.sqlite_file import BUSY_S, on_network

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

CHUNK = 400
"""Rows in one statement; SQLite before 3.32 takes no more than 999 parameters."""


def file_engine(path: Path) -> "Engine":
    """An engine for writing: a transaction takes the file's lock when it begins and is on the disk when it ends."""
    from sqlalchemy import URL, create_engine, event

    journal = "delete" if on_network(path) else "wal"
    engine = create_engine(
        URL.create("sqlite", database=os.fspath(path)),
        connect_args={"timeout": BUSY_S, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # FULL syncs at every commit: a row survives a kill, and a power cut too.
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA journal_mode").fetchone() != (journal,):
            with suppress(sqlite3.OperationalError):  # another process is using the file: next time
                connection.execute(f"PRAGMA journal_mode = {journal}")

    @event.listens_for(engine, "begin")
    def begin(connection: "Connection") -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def insert(connection: "Connection", values: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows of launches whose run_id is new; returns how many."""
    return _insert(connection, "launches", rows.COLUMNS, values)


def insert_probes(connection: "Connection", values: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows of probes whose probe_id is new; returns how many."""
    return _insert(connection, "probes", probe_rows.COLUMNS, values)


def delete(connection: "Connection", ids: Sequence[str]) -> int:
    """Delete the rows with these run_ids; returns how many there were."""
    return sum(
        connection.execute(*_among("DELETE FROM launches", "run_id", ids[start : start + CHUNK])).rowcount
        for start in range(0, len(ids), CHUNK)
    )


def _insert(connection: "Connection", table: str, columns: Sequence[str], values: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows whose key, the first of the columns, is new; returns how many."""
    from sqlalchemy import text

    key = columns[0]
    names = ", ".join(columns)
    statement = text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{c}' for c in columns)})")  # noqa: S608
    added = 0
    for start in range(0, len(values), CHUNK):
        chunk = {v[key]: v for v in values[start : start + CHUNK]}
        for known in connection.execute(*_among(f"SELECT {key} FROM {table}", key, chunk)).scalars():  # noqa: S608
            del chunk[known]
        if chunk:
            connection.execute(statement, list(chunk.values()))
            added += len(chunk)
    return added


def _among(statement: str, key: str, ids: Iterable[str]) -> tuple[Any, dict[str, Any]]:
    from sqlalchemy import bindparam, text

    return text(f"{statement} WHERE {key} IN :ids").bindparams(bindparam("ids", expanding=True)), {"ids": list(ids)}
