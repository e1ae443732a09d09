"""The calibration cache: every launch of every calibration, and the probes of machines, in SQLite or PostgreSQL.

Lookups in an SQLite file use the standard library's driver (sqlite_file.py): `select` answers in a fresh process,
where importing SQLAlchemy would take longer than all the rest. SQLAlchemy writes and migrates (database.py), and does
all with a server's database, which is named by a URL (server.py). Below the user's own cache a fleet's may be read
(fleet.py, lookups.py). exchange.py describes the export format.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from calibration.cache import exchange, statements
from calibration.cache.database import FileDatabase
from calibration.cache.fleet import Fleet, named_fleet
from calibration.cache.lookups import Level, Lookups
from calibration.cache.reader import MALFORMED, ORDER, SELECT, Reader
from calibration.cache.reports import Health, Imported
from calibration.cache.rows import launch_rows as rows
from calibration.cache.rows import probe_rows
from calibration.cache.servers.server import Server
from calibration.cache.snapshot import Snapshot, write_snapshot
from calibration.cache.sqlite_file import AS_IT_IS, VERSION, SQLiteFile, refuse_newer
from calibration.errors import UsageError
from calibration.measurement import Outcome
from calibration.probing.probe import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Cache", "Health", "Imported", "Snapshot"]


class Cache(Lookups):
    """One cache, used by any number of threads. A file that is not there is an empty cache; `add` makes it.

    What is looked up by key (`find`, `find_served`, `newest`, `probes`) comes from the fleet's cache too, where one is
    named; all else is about this cache alone.
    """

    def __init__(self, store: SQLiteFile | Server, fleet: Fleet | None = None) -> None:
        self._file = store if isinstance(store, SQLiteFile) else None
        self._store = store
        self._database = FileDatabase(store) if isinstance(store, SQLiteFile) else store
        reader = Reader(lookup=self._lookup, last="rowid" if isinstance(store, SQLiteFile) else store.last)
        super().__init__(Level(name="own", location=self.location, made_at=None, reader=reader), fleet)

    @classmethod
    def open(
        cls,
        where: str | Path | None = None,
        *,
        fleet: str | Path | None = None,
        notify: Callable[[str], None] = lambda _: None,
    ) -> "Cache":
        """Open a cache.

        Args:
            where: a path or a SQLAlchemy URL; without it AUTOBACKEND_CACHE, then `cache.db` in the user's data folder.
            fleet: a cache that is read below it, a path or a URL; empty: none. By default AUTOBACKEND_FLEET_CACHE, then
                what the config file names.
            notify: is told, in one sentence, that a corrupt file was set aside, that a server is waited for, or why the
                fleet's cache cannot be read.

        Raises:
            CacheError: it is a directory, another program's, of a newer version, may not be read, or cannot be reached.
        """
        text = str(where or os.environ.get("AUTOBACKEND_CACHE") or _default_path())
        store: SQLiteFile | Server
        if "://" in text and (not text.startswith("sqlite:///") or ":memory:" in text):
            store, place = Server(text, notify), text
        else:
            path = Path(text.removeprefix("sqlite:///")).expanduser().absolute()
            store, place = SQLiteFile(path, notify), str(path)
        below = named_fleet() if fleet is None else os.fspath(fleet)
        cache = cls(store, Fleet(below, notify) if below and below != place else None)
        cache._ready()
        return cache

    @property
    def location(self) -> str:
        """The path of the file, or the URL without its password: to be shown."""
        return self._database.location

    @property
    def address(self) -> str:
        """What opens it once more: the path of the file, or the URL with its password. It is not to be shown."""
        return self._store.address.url if isinstance(self._store, Server) else str(self._store.path)

    def add(self, *outcomes: Outcome) -> int:
        """Store launches in one transaction; a launch whose run_id is known is left as it is.

        When `add` returns, all of them are on the disk; when it raises, none of them is. Returns how many were new.

        Raises:
            CacheError: the cache is read-only, locked, away, has no space or no permission.
            ValueError: a sample is no finite number.
        """
        values = [rows.row(o) for o in outcomes]
        return self._database.write(lambda connection: statements.insert(connection, values)) if values else 0

    def add_probe(self, probe: Probe) -> bool:
        """Store a probe of a machine, unless it is there already; was it new? Raises as `add` does."""
        values = [probe_rows.row(probe)]
        return self._database.write(lambda connection: statements.insert_probes(connection, values)) == 1

    def all(self, *, older_than: float | None = None, **equal: Any) -> Iterator[Outcome]:
        """Every launch of this cache, the oldest first; malformed rows are left out.

        Args:
            older_than: Unix time; only launches started before it.
            equal: columns and their values: architecture, quant, device, fingerprint, host, backend, variant, model ...

        Raises:
            CacheError: the cache cannot be read.
            UsageError: an unknown column.
        """
        for row in self._scan(older_than, equal):
            with suppress(*MALFORMED):
                yield rows.outcome(row)

    def delete(self, run_ids: Iterable[str]) -> int:
        """Forget launches, in one transaction. Returns how many there were; raises CacheError as `add` does."""
        ids = list(run_ids)
        if not ids or not self._ready():
            return 0
        return self._database.write(lambda connection: statements.delete(connection, ids))

    def prune(
        self, *, older_than: float | None = None, environment: Mapping[str, str] | None = None, **equal: Any
    ) -> int:
        """Forget the launches that meet every condition, and give their disk space back; returns how many there were.

        Args:
            older_than: Unix time; launches started before it.
            environment: launches that ran with all of these: `{"torch": "2.12.0"}`.
            equal: columns and their values, as for `all`.

        Raises:
            CacheError: as `add` does.
            UsageError: no condition, or an unknown column.
        """
        if older_than is None and not environment and not equal:
            raise UsageError("needs what to prune: an age, a host or an environment; found nothing")
        wanted = (environment or {}).items()
        launches = self.all(older_than=older_than, **equal)
        count = self.delete(o.run_id for o in launches if wanted <= o.environment.items())
        if count and self._file:
            self._file.shrink()
        return count

    def export(self, stream: TextIO, **equal: Any) -> int:
        """Write launches in the format of exchange.py, and the probes of their hosts; returns how many launches.

        Without a condition the probes of all hosts are written. Raises as `all` does.
        """
        return exchange.write(self.all(**equal), self._own.reader.probes(), stream, of_all_hosts=not equal)

    def snapshot(self, path: Path, **equal: Any) -> Snapshot:
        """Write launches and the probes of their hosts into one SQLite file, to be read as a fleet's cache.

        Args:
            path: the file; a snapshot that is there is replaced.
            equal: columns and their values, as for `all`.

        Raises:
            CacheError: as `all` does; or the file cannot be written, or is there and no snapshot.
        """
        return write_snapshot(path, self.location, self.all(**equal), self._own.reader.probes(), of_all_hosts=not equal)

    def import_(self, lines: Iterable[str]) -> Imported:
        """Take in what is new of an export, in one transaction; says which lines hold neither a launch nor a probe.

        Raises:
            CacheError: it is not a cache export, or as `add` does; nothing was taken in.
        """
        bad: list[exchange.BadLine] = []
        read = probes = 0

        def work(connection: "Connection") -> int:
            nonlocal read, probes
            added = 0
            records = exchange.read(lines)
            while chunk := list(islice(records, statements.CHUNK)):
                bad.extend(r for r in chunk if isinstance(r, exchange.BadLine))
                values = [rows.row(r) for r in chunk if not isinstance(r, exchange.BadLine | Probe)]
                read += len(values)
                added += statements.insert(connection, values)
                probed = [probe_rows.row(r) for r in chunk if isinstance(r, Probe)]
                probes += statements.insert_probes(connection, probed)
            return added

        added = self._database.write(work, again=False)
        return Imported(added=added, duplicates=read - added, probes=probes, bad=tuple(bad))

    def check(self) -> Health:
        """Run the database's own integrity check and read every row. Raises CacheError: it cannot be read."""
        damage = [str(row[0]) for row in self._file.lookup("PRAGMA integrity_check", {})] if self._file else []
        count, unreadable = 0, {}
        for count, row in enumerate(self._scan(None, {}), start=1):  # noqa: B007 - the last one is the number of rows
            try:
                rows.outcome(row)
            except MALFORMED as error:
                unreadable[str(row[0])] = str(error)
        for row in self._lookup(probe_rows.SELECT, {}):
            try:
                probe_rows.probe(row)
            except MALFORMED as error:
                unreadable[str(row[0])] = str(error)
        return Health(rows=count, unreadable=unreadable, damage=tuple(d for d in damage if d != "ok"))

    def token(self) -> Hashable:
        """Changes with every commit of any process, to this cache or the fleet's.

        A file tells it in microseconds, PostgreSQL in one exchange; of other databases it always changes.
        """
        own = self._store.token()
        return own if self._fleet is None else (own, self._fleet.token())

    def close(self) -> None:
        self._database.close()
        for part in (self._file, self._fleet):
            if part is not None:
                part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _scan(self, older_than: float | None, equal: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        if unknown := sorted(equal.keys() - set(rows.COLUMNS)):
            raise UsageError(f"the cache has no column {', '.join(unknown)}", f"known are: {', '.join(rows.COLUMNS)}")
        values: dict[str, Any] = dict(equal)
        clauses = [f"{name} = :{name}" for name in equal]
        if older_than is not None:
            values["older_than"] = older_than
            clauses.append("started_at < :older_than")
        where = f"WHERE {' AND '.join(clauses)} " if clauses else ""
        return self._store.scan(f"{SELECT} {where}{ORDER}", values) if self._ready() else iter(())

    def _lookup(self, statement: str, values: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
        return self._store.lookup(statement, values) if self._ready() else ()

    def _ready(self) -> bool:
        """Is there a table to read? Migrates an older one first. Raises CacheError where the table is newer."""
        if isinstance(self._store, Server):
            self._store.open()
            return True
        file = self._store
        if not file.ready():
            return False
        if file.version != VERSION:
            refuse_newer(file.version, self.location)
            if file.writable or (file.version or "") < AS_IT_IS:
                self._database.write(lambda _: None)
                file.close()
        return True


def _default_path() -> Path:
    from platformdirs import user_data_path

    return user_data_path("autobackend") / "cache.db"
