"""The calibration cache: every launch of every calibration, and the probes of machines, in SQLite through SQLAlchemy.

Lookups in an SQLite file use the standard library's driver (sqlite_file.py): `select` answers in a fresh process,
where importing SQLAlchemy would take longer than all the rest. SQLAlchemy writes and migrates, and reads all other
databases, which are named by a URL (database.py). exchange.py describes the export format.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from calibration.cache import exchange, probe_rows, statements
from calibration.cache import launch_rows as rows
from calibration.cache.database import Database
from calibration.cache.sqlite_file import VERSION, SQLiteFile, refuse_newer
from calibration.errors import UsageError
from calibration.measurement import Outcome
from calibration.probe import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

_SELECT = f"SELECT {', '.join(rows.COLUMNS)} FROM launches"  # noqa: S608 - constants
_ORDER = "ORDER BY started_at, run_id"
_KEY = "architecture = :architecture AND quant = :quant AND device = :device"
_MALFORMED = (ValueError, TypeError, KeyError, UsageError)

_outcome = lru_cache(2048)(rows.outcome)
"""Keyed by the whole row, so never out of date: repeated lookups skip the parsing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did."""

    added: int
    duplicates: int
    """Launches that were there already."""
    probes: int = 0
    """Probes of machines that were new."""
    bad: tuple[exchange.BadLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `Cache.check` says of a cache."""

    rows: int
    unreadable: dict[str, str]
    """run_id, or probe_id: why its row cannot be read. Lookups leave such a row out."""
    damage: tuple[str, ...]
    """Sentences of the database's own integrity check; empty when it is well."""

    @property
    def healthy(self) -> bool:
        return not self.unreadable and not self.damage

    def to_json(self) -> dict[str, Any]:
        """As `autobackend cache check --json` prints it."""
        return {"rows": self.rows, "unreadable": self.unreadable, "damage": list(self.damage)}


class Cache:
    """One cache, used by any number of threads. A file that is not there is an empty cache; `add` makes it."""

    def __init__(self, url: str, file: SQLiteFile | None) -> None:
        self._file = file
        self._database = Database(url, file)

    @classmethod
    def open(cls, where: str | Path | None = None, *, notify: Callable[[str], None] = lambda _: None) -> "Cache":
        """Open a cache.

        Args:
            where: a path or a SQLAlchemy URL; without it AUTOBACKEND_CACHE, then `cache.db` in the user's data folder.
            notify: is told, in one sentence, that a corrupt file was set aside.

        Raises:
            CacheError: it is a directory, another program's, of a newer version, may not be read, or cannot be reached.
        """
        text = str(where or os.environ.get("AUTOBACKEND_CACHE") or _default_path())
        if "://" in text and (not text.startswith("sqlite:///") or ":memory:" in text):
            cache = cls(text, None)
        else:
            path = Path(text.removeprefix("sqlite:///")).expanduser().absolute()
            cache = cls("", SQLiteFile(path, notify))
        cache._ready()
        return cache

    @property
    def location(self) -> str:
        """The path of the file, or the URL without its password."""
        return self._database.location

    def add(self, *outcomes: Outcome) -> int:
        """Store launches in one transaction; a launch whose run_id is known is left as it is.

        When `add` returns, all of them are on the disk; when it raises, none of them is. Returns how many were new.

        Raises:
            CacheError: the cache is read-only, locked, has no space or no permission.
            ValueError: a sample is no finite number.
        """
        values = [rows.row(o) for o in outcomes]
        return self._database.write(lambda connection: statements.insert(connection, values)) if values else 0

    def add_probe(self, probe: Probe) -> bool:
        """Store a probe of a machine, unless it is there already; was it new? Raises as `add` does."""
        values = [probe_rows.row(probe)]
        return self._database.write(lambda connection: statements.insert_probes(connection, values)) == 1

    def probes(self, host: str | None = None) -> list[Probe]:
        """The probes of a host, or of all hosts, the oldest first; malformed rows are left out.

        Raises:
            CacheError: the cache cannot be read.
        """
        where = "" if host is None else "WHERE host = :host"
        probes = []
        for row in self._lookup(f"{probe_rows.SELECT} {where} ORDER BY taken_at, probe_id", {"host": host}):
            with suppress(*_MALFORMED):
                probes.append(probe_rows.probe(row))
        return probes

    def find(
        self, *, architecture: str, quant: str, device: str, fingerprint: str | None = None, cut: str | None = ""
    ) -> list[Outcome]:
        """Launches by the key, the oldest first; without a fingerprint, launches of every size.

        Those under load are not among them: see find_served. Malformed rows are left out.

        Args:
            cut: Identity.cut; by default launches of the whole model. None: of the whole model and on a few layers.

        Raises:
            CacheError: the cache cannot be read.
        """
        values = {"architecture": architecture, "quant": quant, "device": device}
        where = _KEY
        if fingerprint is not None:
            values["fingerprint"] = fingerprint
            where += " AND fingerprint = :fingerprint"
        if cut is not None:
            values["cut"] = cut
            where += " AND cut = :cut"
        return self._found(f"{where} AND record NOT IN ('served', 'unserved')", values)

    def find_served(self, *, architecture: str, quant: str, device: str, fingerprint: str) -> list[Outcome]:
        """Launches of whole models as servers under load, by the key, the oldest first; and those that failed at it.

        Malformed rows are left out. Raises as `find` does.
        """
        values = {"architecture": architecture, "quant": quant, "device": device, "fingerprint": fingerprint}
        where = f"{_KEY} AND fingerprint = :fingerprint AND cut = '' AND record IN ('served', 'unserved')"
        return self._found(where, values)

    def all(self, *, older_than: float | None = None, **equal: Any) -> Iterator[Outcome]:
        """Every launch, the oldest first; malformed rows are left out.

        Args:
            older_than: Unix time; only launches started before it.
            equal: columns and their values: architecture, quant, device, fingerprint, host, backend, variant, model ...

        Raises:
            CacheError: the cache cannot be read.
            UsageError: an unknown column.
        """
        for row in self._scan(older_than, equal):
            with suppress(*_MALFORMED):
                yield rows.outcome(row)

    def newest(self, count: int) -> list[Outcome]:
        """The launches that were added last (of a server's database: that ran last), at most `count`; oldest first.

        It takes as long however many there are. Malformed rows are left out.

        Raises:
            CacheError: the cache cannot be read.
        """
        last = "rowid" if self._file else "started_at"
        launches = []
        for row in self._lookup(f"{_SELECT} ORDER BY {last} DESC LIMIT :count", {"count": count}):
            with suppress(*_MALFORMED):
                launches.append(_outcome(row))
        return sorted(launches, key=lambda launch: (launch.started_at, launch.run_id))

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
        return exchange.write(self.all(**equal), self.probes(), stream, of_all_hosts=not equal)

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
            except _MALFORMED as error:
                unreadable[str(row[0])] = str(error)
        for row in self._lookup(probe_rows.SELECT, {}):
            try:
                probe_rows.probe(row)
            except _MALFORMED as error:
                unreadable[str(row[0])] = str(error)
        return Health(rows=count, unreadable=unreadable, damage=tuple(d for d in damage if d != "ok"))

    def token(self) -> Hashable:
        """Changes with every commit of any process, in microseconds; that of a server's database always changes."""
        return self._file.token() if self._file else object()

    def close(self) -> None:
        self._database.close()
        if self._file:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _found(self, where: str, values: Mapping[str, Any]) -> list[Outcome]:
        launches = []
        for row in self._lookup(f"{_SELECT} WHERE {where} {_ORDER}", values):
            with suppress(*_MALFORMED):
                launches.append(_outcome(row))
        return launches

    def _scan(self, older_than: float | None, equal: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        if unknown := sorted(equal.keys() - set(rows.COLUMNS)):
            raise UsageError(f"the cache has no column {', '.join(unknown)}", f"known are: {', '.join(rows.COLUMNS)}")
        values: dict[str, Any] = dict(equal)
        clauses = [f"{name} = :{name}" for name in equal]
        if older_than is not None:
            values["older_than"] = older_than
            clauses.append("started_at < :older_than")
        where = f"WHERE {' AND '.join(clauses)} " if clauses else ""
        statement = f"{_SELECT} {where}{_ORDER}"
        if not self._ready():
            return iter(())
        return self._file.scan(statement, values) if self._file else self._database.rows(statement, values)

    def _lookup(self, statement: str, values: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
        if not self._ready():
            return ()
        return self._file.lookup(statement, values) if self._file else self._database.rows(statement, values)

    def _ready(self) -> bool:
        """Is there a table to read? Migrates an older one first. Raises CacheError where the table is newer."""
        if self._file is None:
            self._database.open()
            return True
        if not self._file.ready():
            return False
        if self._file.version != VERSION:
            refuse_newer(self._file.version, self.location)
            self._database.write(lambda _: None)
            self._file.close()
        return True


def _default_path() -> Path:
    from platformdirs import user_data_path

    return user_data_path("autobackend") / "cache.db"
