"""The fleet's cache: what many hosts measured, read below the user's own cache and never written."""

import os
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeVar

from calibration.cache.one_at_a_time import one_at_a_time
from calibration.cache.reader import Reader
from calibration.cache.servers.server import Server
from calibration.cache.sqlite_file import AS_IT_IS, SQLiteFile, refuse_newer
from calibration.environments.config_file import fleet_cache
from calibration.errors import BackendError, CacheError

T = TypeVar("T")

VARIABLE: Final = "AUTOBACKEND_FLEET_CACHE"

AWAY_S: Final = 30.0
"""A server that did not answer is asked again after this long: answers do not wait for it each time."""


def named_fleet() -> str:
    """AUTOBACKEND_FLEET_CACHE, or `fleet` of the config file's `[cache]`; empty: there is none.

    Raises:
        CacheError: the config file cannot be read.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return chosen
    try:
        return fleet_cache()
    except BackendError as error:
        raise CacheError(error.message, error.mend) from error


class Fleet:
    """A second cache that is only read: a server's database, or a snapshot file.

    An answer does not fail for want of it. Where it cannot be read it has no rows, which is said once each time that
    this begins.

    Args:
        where: a path or a URL.
        notify: is told, in one sentence, why it cannot be read.
    """

    def __init__(self, where: str, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._away_until = 0.0
        """By the monotonic clock."""
        self._reason = ""
        """Why it cannot be read; empty while it can."""
        self._turns = 0
        """How often it went away or came back."""
        self._said = ""
        """The last sentence that `notify` was told."""
        self.lock = RLock()
        """Held while it is noted that it went away or came back."""
        self._store: SQLiteFile | Server
        self._file: SQLiteFile | None = None
        if "://" in where and not where.startswith("sqlite:///"):
            server = self._store = Server(where, patience_s=0.0, may_write=False)
            self.location = server.location
            self.reader = Reader(lookup=self.lookup, last=server.last)
        else:
            path = Path(where.removeprefix("sqlite:///")).expanduser().absolute()
            self._store = self._file = SQLiteFile(path, self._say, may_write=False)
            self.location = str(path)
            self.reader = Reader(lookup=self.lookup, last="rowid")

    def lookup(self, statement: str, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows at once; none while it is away."""
        nothing: Sequence[Sequence[Any]] = ()
        return self._unless_away(lambda: self._there().lookup(statement, values), nothing)

    def token(self) -> Hashable:
        """Changes when its rows do, and when it goes away or comes back."""
        token = self._unless_away(lambda: self._there().token(), None)
        return self._turns, token

    def made_at(self) -> float | None:
        """Unix time at which a snapshot was made; None of a database that still grows."""
        if self._file is None or not self.lookup("SELECT 1 FROM sqlite_master WHERE name = 'snapshot'", {}):
            return None
        return next((float(row[0]) for row in self.lookup("SELECT made_at FROM snapshot", {})), None)

    def close(self) -> None:
        self._store.close()

    def _there(self) -> SQLiteFile | Server:
        """What is to be read; raises CacheError where it is a file that is not there, or of another version."""
        file = self._file
        if file is None:
            return self._store
        if file.state is None:
            raise CacheError(f"the fleet's cache {file.path} is not there")
        if file.ready():
            refuse_newer(file.version, self.location)
            if (file.version or "") < AS_IT_IS:
                raise CacheError(
                    f"the fleet's cache {file.path} was made by an older autobackend (version {file.version})"
                )
        return file

    def _unless_away(self, read: Callable[[], T], otherwise: T) -> T:
        if time.monotonic() < self._away_until:
            return otherwise
        try:
            answer = read()
        except CacheError as error:
            self._went(error)
            return otherwise
        if self._reason:
            self._came()
        return answer

    @one_at_a_time
    def _went(self, error: CacheError) -> None:
        if self._file is None:
            self._away_until = time.monotonic() + AWAY_S
        if error.message != self._reason:
            self._reason = error.message
            self._turns += 1
            self._say(f"{error.message}; answers are without what the fleet measured")

    @one_at_a_time
    def _came(self) -> None:
        self._reason = self._said = ""
        self._turns += 1

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._notify(sentence)
