"""The cache's SQLite file as it is read, by the standard library's driver; set aside when it is corrupt."""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from threading import RLock
from typing import Any
from urllib.parse import quote

from calibration.cache.one_at_a_time import one_at_a_time
from calibration.errors import CacheError

Row = tuple[Any, ...]

VERSION = "0007"
"""The newest migration; a test compares it with the folder. Versions are compared as texts of four digits."""

AS_IT_IS = "0006"
"""From this version on a file that nobody may write is read as it is: its tables have every column."""

VERSION_TABLE = "autobackend_version"

BUSY_S = 30.0
"""How long a process waits for others that hold the file: a writer does for milliseconds, an import for seconds."""

_ANOTHER = "name another with --cache or AUTOBACKEND_CACHE"

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "ceph", "glusterfs", "beegfs", "afs", "vboxsf"}
)


class SQLiteFile:
    """The file at `path`, used by any number of threads; a file that does not exist has no rows."""

    def __init__(self, path: Path, notify: Callable[[str], None], *, may_write: bool = True) -> None:
        self.path = path
        self._notify = notify
        self._may_write = may_write
        self.lock = RLock()
        """Held while the connection is opened, used or closed: the threads of a process share it."""
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        """Process and inode that the connection belongs to."""
        self._connections = 0
        """Opened so far: each counts the commits of others by itself."""
        self.version: str | None = None
        """Newest migration that the file has seen; None where there is no table yet. Read when it is opened."""

    @property
    def writable(self) -> bool:
        """May this user write the file, and the journal beside it?"""
        return self._may_write and all(os.access(p, os.W_OK, effective_ids=True) for p in (self.path, self.path.parent))

    @property
    def state(self) -> tuple[int, int] | None:
        """Process and inode: a connection of another state is a parent process's, or to a file that was replaced."""
        inode = self._inode()
        return None if inode is None else (os.getpid(), inode)

    @one_at_a_time
    def token(self) -> Hashable:
        """Changes with every commit of any process, once its rows can be read; costs a stat and a query.

        The times of the files would not do: they change while a commit is still on its way to the disk, and its rows
        cannot be read before it is there (https://www.sqlite.org/pragma.html#pragma_data_version).
        """
        version = self.lookup("PRAGMA data_version", {})
        return self._connections, *version

    @one_at_a_time
    def ready(self) -> bool:
        """Open the file, where it exists and is not open yet; is there a table to read?

        Raises:
            CacheError: the file is a directory, another program's, or may not be read.
        """
        state = self.state
        if self._connection is not None and state != self._opened:
            self.close()
        if state is None:
            return False
        if self._connection is None:
            try:
                connection = self._connect()
                try:
                    self.version = self._read_version(connection)
                except BaseException:
                    connection.close()
                    raise
            except sqlite3.Error as error:
                self.broken(error, state)
                return False
            if self.version is None:
                connection.close()
                return False
            self._connection, self._opened = connection, state
            self._connections += 1
        return True

    @one_at_a_time
    def lookup(self, statement: str, values: Mapping[str, Any]) -> list[Row]:
        """All rows at once, on the open connection. A corrupt file is set aside and has no rows.

        Raises:
            CacheError: the file cannot be read.
        """
        if not self.ready():
            return []
        assert self._connection is not None
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if "decode to UTF-8" in str(error):
                return list(self.scan(statement, values))
            self.broken(error, self._opened)
            return []

    def scan(self, statement: str, values: Mapping[str, Any]) -> Iterator[Row]:
        """Row by row, on a connection of its own; stray bytes in texts are replaced. Raises as `lookup`."""
        with self.lock:
            if not self.ready():
                return
            opened = self._opened
        try:
            with closing(self._connect()) as connection:
                connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
                yield from connection.execute(statement, values)
        except sqlite3.Error as error:
            self.broken(error, opened)

    @one_at_a_time
    def broken(self, error: BaseException, opened: tuple[int, int] | None) -> None:
        """Set a corrupt file aside and say so, unless another process has done it already.

        Args:
            opened: the file's state when the connection was made. Where it has changed, another process has.

        Raises:
            CacheError: the file is not corrupt, but cannot be used.
        """
        if not corrupt(error):
            raise self.problem(error) from error
        self.close()
        if opened is not None and self.state != opened:
            return
        if not self.writable:
            self._notify(f"the cache {self.path} is corrupt ({error}) and read-only: it counts as empty")
            return
        aside = self._aside()
        with suppress(FileNotFoundError):
            self.path.rename(aside)
            self._notify(
                f"the cache {self.path} is corrupt ({error}); it was set aside as {aside.name} and a new one is begun"
            )
        for ending in ("-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{ending}").rename(f"{aside}{ending}")

    def problem(self, error: BaseException) -> CacheError:
        """SQLite's error as a sentence, with what the user can do."""
        match _code(error):
            case sqlite3.SQLITE_FULL:
                return CacheError(
                    f"the cache {self.path} cannot be written: the disk is full", f"free space, or {_ANOTHER}"
                )
            case sqlite3.SQLITE_READONLY:
                return self.read_only()
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return CacheError(
                    f"the cache {self.path} was locked by another program for {BUSY_S:.0f} s",
                    "try again when it has ended",
                )
            case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
                return CacheError(f"the cache {self.path} cannot be opened ({error})", f"allow it, or {_ANOTHER}")
            case _:
                return CacheError(f"the cache {self.path} cannot be used ({error})", f"move it away, or {_ANOTHER}")

    def shrink(self) -> None:
        """Give the space of deleted rows back, unless somebody is using the file."""
        with suppress(sqlite3.Error), closing(sqlite3.connect(self.path, timeout=1.0)) as connection:
            connection.execute("VACUUM")

    def read_only(self) -> CacheError:
        return CacheError(f"the cache {self.path} is read-only", f"make it and its folder writable, or {_ANOTHER}")

    @one_at_a_time
    def close(self) -> None:
        # A connection inherited by a fork belongs to the parent: closing it here would touch the parent's locks.
        if self._connection is not None and self._opened and self._opened[0] == os.getpid():
            self._connection.close()
        self._connection = self._opened = self.version = None

    def _inode(self) -> int | None:
        try:
            status = os.stat(self.path)  # noqa: PTH116  half the time of Path.stat, and called for every selection
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CacheError(
                f"the cache {self.path} cannot be read: {error.strerror}", f"allow it, or {_ANOTHER}"
            ) from error
        if stat.S_ISDIR(status.st_mode):
            raise CacheError(f"the cache {self.path} is a directory", f"name a file: --cache {self.path / 'cache.db'}")
        if not stat.S_ISREG(status.st_mode):
            raise CacheError(f"the cache {self.path} is not a file", _ANOTHER)
        return status.st_ino

    def _connect(self) -> sqlite3.Connection:
        # A file in WAL mode needs shared memory in its folder. Where that cannot be made nobody can write the file
        # either, so it may be read as immutable.
        modes = ("mode=rw",) if self.writable else ("mode=ro", "mode=ro&immutable=1")
        for mode in modes:
            connection = sqlite3.connect(
                f"file:{quote(os.fspath(self.path))}?{mode}",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA query_only = 1")
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.Error as error:
                connection.close()
                if mode == modes[-1] or corrupt(error):
                    raise
            else:
                return connection
        raise AssertionError

    def _read_version(self, connection: sqlite3.Connection) -> str | None:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if VERSION_TABLE not in tables:
            raise CacheError(
                f"{self.path} is an SQLite file of another program (tables {', '.join(sorted(tables)[:3])})", _ANOTHER
            )
        row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
        return str(row[0]) if row else None

    def _aside(self) -> Path:
        stem = f"{self.path}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}"
        aside, count = Path(stem), 1
        while aside.exists():
            count += 1
            aside = Path(f"{stem}-{count}")
        return aside


def refuse_newer(version: str | None, location: str) -> None:
    """Raise CacheError where a cache has seen migrations that are not known here."""
    if version is not None and version > VERSION:
        raise CacheError(
            f"the cache {location} has version {version}; this autobackend knows {VERSION} and older",
            "upgrade autobackend: pip install --upgrade autobackend",
        )


def corrupt(error: BaseException) -> bool:
    """Does SQLite say that the file is damaged, or no database at all?"""
    return _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def on_network(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Is the path on a filesystem that several machines may mount?

    SQLite's WAL needs memory that all readers share, so all readers must be on one machine (sqlite.org/wal.html). FUSE
    counts as a network: many of its filesystems are, and none promises shared memory.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    real, best, kind = os.path.realpath(path), "", ""
    for line in lines:
        _, point, filesystem, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, filesystem
    return kind in _NETWORK or kind.startswith("fuse")


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
