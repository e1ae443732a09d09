"""The database behind a cache as SQLAlchemy sees it: what writes and migrates, and what reads from a server."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from calibration.cache import statements
from calibration.cache.one_at_a_time import one_at_a_time
from calibration.cache.sqlite_file import SQLiteFile, corrupt
from calibration.errors import CacheError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Result = TypeVar("Result")


class Database:
    """An SQLite file, or a server's database, used by any number of threads.

    Its tables are brought up to date before the first statement.

    Args:
        url: SQLAlchemy's, of a server's database.
        file: the file, where it is one.
    """

    def __init__(self, url: str, file: SQLiteFile | None) -> None:
        self._url = url
        self._file = file
        self._engine: Engine | None = None
        self._engine_state: tuple[int, int] | None = None
        """State of the file, or process, that the engine belongs to."""
        self.lock = RLock()
        """Held while an engine is made, dropped, or used to write."""

    @property
    def location(self) -> str:
        """The path of the file, or the URL without its password."""
        if self._file:
            return str(self._file.path)
        from sqlalchemy import make_url

        return make_url(self._url).render_as_string(hide_password=True)

    def open(self) -> None:
        """Connect to the server; raises CacheError where that fails."""
        self._server()

    @one_at_a_time
    def write(self, work: Callable[["Connection"], Result], *, again: bool = True) -> Result:
        """Do `work` in one transaction; with `again`, repeat it on a new file where the old file turns out corrupt.

        Raises:
            CacheError: the database cannot be written; nothing of `work` is kept.
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with (self._writable_file() if self._file else self._server()).begin() as connection:
                result = work(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause, opened = getattr(error, "orig", None) or error, self._engine_state
            self.close()
            if self._file is None or not corrupt(cause):
                raise self._problem(error) from error
            self._file.broken(cause, opened)
            if not again:
                raise CacheError(
                    f"the cache {self.location} was corrupt and was set aside", "do it once more"
                ) from error
            return self.write(work, again=False)
        return result

    def rows(self, statement: str, values: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """Rows of a server's database, one by one; raises CacheError where they cannot be read."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._server().connect().execution_options(yield_per=statements.CHUNK) as connection:
                yield from map(tuple, connection.execute(text(statement), values))
        except SQLAlchemyError as error:
            raise self._problem(error) from error

    @one_at_a_time
    def close(self) -> None:
        """Drop the connections; the next statement makes new ones."""
        if self._engine is not None:
            # Connections inherited by a fork are the parent's to close.
            self._engine.dispose(close=self._engine_state is None or self._engine_state[0] == os.getpid())
        self._engine = self._engine_state = None

    def _writable_file(self) -> "Engine":
        assert self._file is not None
        state = self._file.state
        if state is None:
            try:
                self._file.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CacheError(
                    f"the cache {self.location} cannot be made: {error.strerror}",
                    "name another with --cache or AUTOBACKEND_CACHE",
                ) from error
        elif not self._file.writable:
            raise self._file.read_only()
        if self._engine is None or self._engine_state != state:
            from calibration.cache.migrations import upgrade

            self.close()
            self._engine, self._engine_state = statements.file_engine(self._file.path), state
            upgrade(self._engine, self.location)
            self._engine_state = self._file.state
        return self._engine

    def _server(self) -> "Engine":
        engine, state = self._engine, self._engine_state
        # Whoever reads does not wait for a thread that writes.
        return engine if engine is not None and state and state[0] == os.getpid() else self._server_of_this_process()

    @one_at_a_time
    def _server_of_this_process(self) -> "Engine":
        if self._engine is None or (self._engine_state and self._engine_state[0] != os.getpid()):
            self.close()
            from sqlalchemy import create_engine
            from sqlalchemy.exc import SQLAlchemyError

            from calibration.cache.migrations import upgrade

            try:
                self._engine = create_engine(self._url)
                upgrade(self._engine, self.location)
            except (SQLAlchemyError, ImportError) as error:
                raise self._problem(error) from error
            self._engine_state = (os.getpid(), 0)
        return self._engine

    def _problem(self, error: BaseException) -> CacheError:
        cause = getattr(error, "orig", None) or error
        if self._file:
            return self._file.problem(cause)
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        return CacheError(
            f"the cache {self._url.split('://')[0]}://... cannot be used: {lines[0]}", "see its URL and server"
        )
