"""An SQLite file as SQLAlchemy sees it: what writes and migrates it."""

import os
import sqlite3
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from calibration.cache import statements
from calibration.cache.one_at_a_time import one_at_a_time
from calibration.cache.sqlite_file import SQLiteFile, corrupt
from calibration.errors import CacheError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Result = TypeVar("Result")


class FileDatabase:
    """An SQLite file as it is written, by any number of threads.

    Its tables are brought up to date before the first statement.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._engine: Engine | None = None
        self._engine_state: tuple[int, int] | None = None
        """State of the file that the engine belongs to."""
        self.lock = RLock()
        """Held while an engine is made, dropped, or used to write."""

    @property
    def location(self) -> str:
        """The path of the file."""
        return str(self._file.path)

    @one_at_a_time
    def write(self, work: Callable[["Connection"], Result], *, again: bool = True) -> Result:
        """Do `work` in one transaction; with `again`, repeat it on a new file where the old file turns out corrupt.

        Raises:
            CacheError: the file cannot be written; nothing of `work` is kept.
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with self._writable_engine().begin() as connection:
                result = work(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause, opened = getattr(error, "orig", None) or error, self._engine_state
            self.close()
            if not corrupt(cause):
                raise self._file.problem(cause) from error
            self._file.broken(cause, opened)
            if not again:
                raise CacheError(
                    f"the cache {self.location} was corrupt and was set aside", "do it once more"
                ) from error
            return self.write(work, again=False)
        return result

    @one_at_a_time
    def close(self) -> None:
        """Drop the connections; the next statement makes new ones."""
        if self._engine is not None:
            # Connections inherited by a fork are the parent's to close.
            self._engine.dispose(close=self._engine_state is None or self._engine_state[0] == os.getpid())
        self._engine = self._engine_state = None

    def _writable_engine(self) -> "Engine":
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
