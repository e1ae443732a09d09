"""`python -m benchmarks.shared`: the cache in PostgreSQL under many writers, and `select` from it beside a file."""

import argparse
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.shared.answers import Spread, answers
from benchmarks.shared.postgresql import Server, running
from benchmarks.shared.writers import Written, write_together
from benchmarks.speed.caches import FOLDER, LEAST, stocked
from calibration.cache.cache import Cache
from calibration.cache.rows.launch_rows import COLUMNS
from selector.planning.plan import plan

MODEL = "shape:qwen2.5-0.5b"
SETTINGS = ("shared_buffers=512MB", "max_wal_size=4GB")
"""For a million rows; commits are on the disk when they return, as by default."""


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m benchmarks.shared", description=__doc__)
    asked.add_argument("--writers", type=int, default=64, help="0: only what follows")
    asked.add_argument("--rows", type=int, default=1000, help="of each writer")
    asked.add_argument("--processes", type=int, default=8, help="that the writers are spread over")
    asked.add_argument(
        "--launches", type=int, default=1_000_000, help="that select answers from; a multiple of 100,000"
    )
    asked.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where the filled databases stay, to be timed again without filling"
    )
    asked.add_argument("--out", type=Path, default=Path("build/shared.json"))
    words = asked.parse_args()
    os.environ["AUTOBACKEND_FLEET_CACHE"] = ""
    figures: dict[str, object] = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count()}
    written: Written | None = None
    with running(SETTINGS, keep=words.keep and words.keep / "postgresql") as server:
        figures["server"] = server.run("SHOW server_version")[0][0]
        if words.writers:
            with server.database() as name:
                written = write_together(
                    server.url(name), writers=words.writers, rows=words.rows, processes=words.processes
                )
            figures["written"] = {**asdict(written), "per_second": written.per_second}
            print(
                f"{written.writers} writers, {written.rows:,} rows, a commit each: {written.seconds:.1f} s,"
                f" {written.per_second:,.0f} rows a second; lost {written.lost}, doubled {written.doubled}"
            )
        if words.launches:
            file = stocked(plan(MODEL), words.launches, words.keep or FOLDER)
            name = _filled(server, file, words.launches)
            with _apart(file) as own:
                figures["select"] = _beside(
                    {"SQLite": answers(MODEL, str(own)), "PostgreSQL": answers(MODEL, server.url(name))}
                )
    words.out.parent.mkdir(parents=True, exist_ok=True)
    words.out.write_text(json.dumps(figures, indent=2) + "\n")
    if written and (written.lost or written.doubled or written.rows != words.writers * words.rows):
        raise SystemExit("rows were lost")


def _beside(measured: Mapping[str, Mapping[str, Spread]]) -> Mapping[str, Mapping[str, object]]:
    """Print a line for each thing asked, and give all of it back for the file."""
    for what in next(iter(measured.values())):
        told = (
            f"{name} {spreads[what].p50_s * 1e3:.3g} ms (p95 {spreads[what].p95_s * 1e3:.3g} ms)"
            for name, spreads in measured.items()
        )
        print(f"select(), {what}: {', '.join(told)}")
    return {name: {what: asdict(s) for what, s in spreads.items()} for name, spreads in measured.items()}


@contextmanager
def _apart(file: Path) -> Iterator[Path]:
    """A copy that may be written to."""
    with tempfile.TemporaryDirectory(dir=file.parent.resolve()) as folder:
        yield Path(shutil.copy(file, folder))


def _filled(server: Server, file: Path, launches: int) -> str:
    """The name of a database with the launches of a file: one that was kept, or a new one."""
    name = file.stem.replace("-", "_")
    if not server.run(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):  # noqa: S608
        unfinished = f"{name}_unfinished"
        server.run(f"DROP DATABASE IF EXISTS {unfinished}", f"CREATE DATABASE {unfinished} TEMPLATE template0")
        began = time.perf_counter()
        _copy(file, server.url(unfinished), launches // LEAST)
        server.run(f"ALTER DATABASE {unfinished} RENAME TO {name}")
        print(f"filled PostgreSQL with {launches:,} launches in {time.perf_counter() - began:.0f} s")
    return name


def _copy(file: Path, url: str, times: int) -> None:
    """Fill a database with the first LEAST launches of a file, and these again under other keys, as `stocked` does."""
    import psycopg

    Cache.open(url, fleet="").close()
    names = ", ".join(COLUMNS)
    changed = {"run_id": "{copy} || '-' || run_id", "architecture": "architecture || {copy}"}
    copied = ", ".join(changed.get(name, name) for name in COLUMNS)
    with psycopg.connect(url) as connection, closing(sqlite3.connect(file)) as source:
        with connection.cursor() as cursor, cursor.copy(f"COPY launches ({names}) FROM STDIN".encode()) as copy:
            for row in source.execute(f"SELECT {names} FROM launches ORDER BY rowid LIMIT {LEAST}"):  # noqa: S608
                copy.write_row(row)
        for number in range(1, times):
            again = copied.format(copy=f"'{number}'")
            connection.execute(
                f"INSERT INTO launches ({names}) SELECT {again} FROM launches WHERE added <= {LEAST}".encode()  # noqa: S608
            )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE launches")


if __name__ == "__main__":
    main()
