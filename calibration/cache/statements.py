"""What is written to the cache: an engine for a file, and the statements that add and delete rows."""

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.cache.rows import launch_rows as rows
from calibration.cache.rows import probe_rows
from calibration.cache.sqlite_file import BUSY_S, on_network

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

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

    key, names = columns[0], ", ".join(columns)
    unless_known = f"ON CONFLICT ({key}) DO NOTHING"
    if connection.dialect.name == "postgresql":
        # One statement for all rows, whose types are the table's own: it is parsed once and counted as one change.
        # In the order of the keys, so that two imports of the same rows never wait for each other.
        source = (
            f"SELECT {names} FROM json_populate_recordset(CAST(NULL AS {table}), CAST(:rows AS json)) ORDER BY {key}"  # noqa: S608
        )
        statement = text(f"INSERT INTO {table} ({names}) {source} {unless_known}")
        chunks = [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
        return sum(connection.execute(statement, {"rows": _json([*chunk])}).rowcount for chunk in chunks)
    statement = text(
        f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{c}' for c in columns)}) {unless_known}"  # noqa: S608
    )
    return connection.execute(statement, [*values]).rowcount if values else 0


def _among(statement: str, key: str, ids: Iterable[str]) -> tuple[Any, dict[str, Any]]:
    from sqlalchemy import bindparam, text

    return text(f"{statement} WHERE {key} IN :ids").bindparams(bindparam("ids", expanding=True)), {"ids": list(ids)}
