"""A database that is named by a URL, PostgreSQL's as a rule: its connections, and how it is read and written."""

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from calibration.cache import statements
from calibration.cache.one_at_a_time import one_at_a_time
from calibration.cache.servers.address import Address
from calibration.cache.servers.refusals import passing, problem
from calibration.cache.sqlite_file import VERSION, refuse_newer
from calibration.errors import CacheError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Result = TypeVar("Result")

PATIENCE_S = 30.0
"""How long a statement is tried again where the connection broke: as long as a file's lock is waited for (BUSY_S)."""
FIRST_PAUSE_S = 0.25
"""Then twice as long each time."""

CONNECTING: Final[Mapping[str, int | str]] = {
    # libpq waits for ever by default.
    "connect_timeout": 10,
    "application_name": "autobackend",
    # A host that went away without a word is noticed within a minute, also in the middle of a statement.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Options of libpq, where the URL does not set them."""

SOON_S: Final = 3
"""connect_timeout of a database that is only read, since an answer waits for it that can do without."""

TOKEN: Final = "SELECT sum(count), max(CAST(tableoid AS bigint)) FROM changes"  # noqa: S105  no password
"""Its counts grow with each transaction that writes: see migration 0007. The number of the table tells a database that
was made anew under the same name."""

_of_parents: Final[list["Engine"]] = []
"""Engines that a fork inherited. Their connections are the parent's: nobody here may close them, so they are kept."""


class Server:
    """A database that is named by a URL, used by any number of threads.

    Its tables are brought up to date when it is opened.

    Args:
        url: as the user wrote it.
        notify: is told, in one sentence, that the server is away and waited for.
        patience_s: how long a statement is tried again where the connection broke.
        may_write: False: its tables are left as they are, and where there are none it has no rows.

    Raises:
        CacheError: the URL cannot be read, or is of another database than SQLite and PostgreSQL.
    """

    def __init__(
        self,
        url: str,
        notify: Callable[[str], None] = lambda _: None,
        *,
        patience_s: float = PATIENCE_S,
        may_write: bool = True,
    ) -> None:
        self.address = Address.parse(url)
        self._notify = notify
        self._patience_s = patience_s
        self._may_write = may_write
        self._engine: Engine | None = None
        self._pid = 0
        """Process that the engine belongs to."""
        self._empty = False
        """There are no tables, and none may be made."""
        self.lock = RLock()
        """Held while an engine is made, dropped, or used to write."""

    @property
    def location(self) -> str:
        """The URL without its password."""
        return self.address.shown

    @property
    def last(self) -> str:
        """The column that counts launches in the order in which they were added."""
        return "added" if self.address.dialect == "postgresql" else "rowid"

    def open(self) -> None:
        """Connect, and bring the tables up to date; raises CacheError where that fails."""
        self._engine_here()

    @one_at_a_time
    def write(self, work: Callable[["Connection"], Result], *, again: bool = True) -> Result:
        """Do `work` in one transaction.

        Whether a transaction whose connection broke was committed nobody knows. Rows are inserted where they are not
        there yet, and deleted by their keys: to do it twice is to do it once.

        Args:
            again: repeat it where the connection broke, or where another transaction was in the way.

        Raises:
            CacheError: the database cannot be written; nothing of `work` is kept.
        """

        def once() -> Result:
            with self._engine_here().begin() as connection:
                return work(connection)

        return self._patiently(once, self._patience_s if again else 0.0)

    def lookup(self, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows at once, in one exchange with the server; raises CacheError where they cannot be read."""
        from sqlalchemy import text

        def once() -> list[tuple[Any, ...]]:
            engine = self._engine_here()
            if not self._has_tables(engine):
                return []
            # A transaction for one statement would take two more exchanges.
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return [tuple(row) for row in connection.execute(text(statement), values)]

        return self._patiently(once, self._patience_s)

    def scan(self, statement: str, values: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """Row by row; raises CacheError where they cannot be read."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        engine = self._engine_here()
        if not self._has_tables(engine):
            return
        try:
            with engine.connect().execution_options(yield_per=statements.CHUNK) as connection:
                yield from map(tuple, connection.execute(text(statement), values))
        except SQLAlchemyError as error:
            raise problem(error, self.address) from error

    def token(self) -> Hashable:
        """Changes with every commit of any process, once its rows can be read; costs an exchange with the server.

        Of another database than PostgreSQL it changes every time.
        """
        return tuple(self.lookup(TOKEN, {})) if self.address.dialect == "postgresql" else object()

    @one_at_a_time
    def close(self) -> None:
        """Drop the connections; the next statement makes new ones."""
        if self._engine is not None:
            if self._pid == os.getpid():
                self._engine.dispose()
            else:
                _of_parents.append(self._engine)
        self._engine = None

    def _engine_here(self) -> "Engine":
        engine, pid = self._engine, self._pid
        # Whoever reads does not wait for a thread that writes.
        return engine if engine is not None and pid == os.getpid() else self._engine_of_this_process()

    @one_at_a_time
    def _engine_of_this_process(self) -> "Engine":
        if self._engine is not None and self._pid == os.getpid():
            return self._engine
        self.close()
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError

        options: dict[str, Any] = {}
        if self.address.dialect == "postgresql":
            usual = {**CONNECTING, **({} if self._may_write else {"connect_timeout": SOON_S})}
            options["connect_args"] = {k: v for k, v in usual.items() if k not in self.address.options}
        try:
            engine = create_engine(self.address.url, **options)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise problem(error, self.address) from error
        try:
            self._make_ready(engine)
        except SQLAlchemyError as error:
            engine.dispose()
            raise problem(error, self.address, opening=True) from error
        except BaseException:
            engine.dispose()
            raise
        # The engine last: whoever sees it sees whose it is.
        self._pid = os.getpid()
        self._engine = engine
        return engine

    def _make_ready(self, engine: "Engine") -> None:
        from calibration.cache.migrations import upgrade, version_of

        if self._may_write:
            upgrade(engine, self.location)
            return
        version = version_of(engine)
        refuse_newer(version, self.location)
        if version is not None and version != VERSION:
            raise CacheError(
                f"the cache {self.location} has version {version}; this autobackend reads {VERSION}",
                "whoever opens it as a user who may change its tables brings it up to date: autobackend cache path",
            )
        self._empty = version is None

    def _has_tables(self, engine: "Engine") -> bool:
        if self._empty:
            self._make_ready(engine)  # somebody may have made them meanwhile
        return not self._empty

    def _patiently(self, work: Callable[[], Result], patience_s: float) -> Result:
        """Do `work`; again where the reason of its failure goes away by itself. Raises CacheError."""
        from sqlalchemy.exc import SQLAlchemyError

        deadline, pause_s = time.monotonic() + patience_s, FIRST_PAUSE_S
        while True:
            try:
                return work()
            except SQLAlchemyError as error:
                told = problem(error, self.address)
                if not passing(error) or time.monotonic() + pause_s > deadline:
                    raise told from error
                if pause_s == 2 * FIRST_PAUSE_S:  # what the first repetition mends is not worth a word
                    self._notify(f"{told.message}; it is tried again for {patience_s:.0f} s")
            time.sleep(pause_s)
            pause_s *= 2
