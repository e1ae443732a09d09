"""What a database server's errors mean: a sentence, and what the user can do."""

import re
from collections.abc import Sequence
from typing import Final

from calibration.cache.servers.address import Address
from calibration.errors import CacheDriverMissing, CacheError, CacheRefused, CacheUnreachable

EXTRA = "autobackend[postgresql]"

GRANTS = (
    "GRANT SELECT, INSERT, DELETE ON launches, probes TO {user}; GRANT SELECT, UPDATE ON changes TO {user};"
    " GRANT SELECT ON autobackend_version TO {user}"
)

_CONNECTING: Final[Sequence[tuple[str, type[CacheError], str, str]]] = (
    (
        r"password authentication failed|no password supplied|role .* does not exist|authentication failed",
        CacheRefused,
        "does not let {user} in",
        "correct the user and the password in its URL, or give the password in PGPASSWORD or ~/.pgpass",
    ),
    (
        r"no pg_hba\.conf entry|is not permitted to log in",
        CacheRefused,
        "does not let {user} in",
        "allow this machine in the server's pg_hba.conf; where that wants TLS, add ?sslmode=require to the URL",
    ),
    (
        r"database .* does not exist",
        CacheRefused,
        "is not there",
        "make the database (createdb NAME), or correct the name at the end of its URL",
    ),
    (
        r"does not support SSL|SSL error|certificate|SSL off|requires encryption",
        CacheRefused,
        "cannot be reached by TLS as its URL asks",
        "see sslmode and sslrootcert in its URL: https://www.postgresql.org/docs/current/libpq-ssl.html",
    ),
    (
        r"too many (clients|connections)|connection slots|connection limit",
        CacheUnreachable,
        "has no connection left",
        "raise max_connections of the server, or put a pool before it",
    ),
    (r"starting up|shutting down|recovery mode", CacheUnreachable, "does not answer yet", "try again in a moment"),
    (r"invalid .*(value|option)|invalid integer", CacheError, "has a URL with an option that is wrong", "correct it"),
)
"""What libpq says where no connection comes about; such an error has no SQLSTATE. The first that fits holds."""

_PASSING = frozenset({"40001", "40P01", "57P01", "57P02", "57P03", "53300"})
"""SQLSTATEs that go away by themselves: another transaction was in the way, the server stops or starts, or is full."""


def passing(error: BaseException) -> bool:
    """Whether the same may succeed in a moment: the connection broke, or another transaction was in the way."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    if state is None:
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return state in _PASSING or state.startswith("08")


def problem(error: BaseException, address: Address, *, opening: bool = False) -> CacheError:
    """The error as a sentence with what the user can do; no password is in it.

    Args:
        opening: it came about while the tables were made or brought up to date.
    """
    if isinstance(error, ImportError):
        return CacheDriverMissing(
            f"the cache {address.shown} needs psycopg, which is not installed here ({_sentence(error, address)})",
            f"install it: pip install '{EXTRA}'",
        )
    sentence, state = _sentence(error, address), _state(error)
    user = address.user or "this user"
    if state is None and passing(error):
        for pattern, kind, what, mend in _CONNECTING:
            if re.search(pattern, sentence):
                return kind(f"the cache {address.shown} {what.format(user=user)}: {sentence}", mend)
        return CacheUnreachable(
            f"the cache {address.shown} cannot be reached: {sentence}",
            "see the host and the port in its URL, and whether the server runs and may be reached from here",
        )
    match state or "":
        case "42501" if opening and "denied for table" not in sentence:
            return CacheRefused(
                f"the cache {address.shown} does not allow {user} to make or change its tables: {sentence}",
                "let the owner of the database open it once: autobackend cache path --cache URL",
            )
        case "42501":
            return CacheRefused(
                f"the cache {address.shown} does not allow {user} to do this: {sentence}",
                f"let its owner run: {GRANTS.format(user=address.user or 'USER')}",
            )
        case "25006":
            return CacheRefused(
                f"the cache {address.shown} is read-only: {sentence}", "name the server that replicas copy from"
            )
        case "53100":
            return CacheError(f"the cache {address.shown} cannot be written: {sentence}", "free space on its server")
        case text if text in _PASSING or text.startswith("08"):
            return CacheUnreachable(
                f"the cache {address.shown} cannot be used now: {sentence}", "try again in a moment"
            )
        case _:
            return CacheError(f"the cache {address.shown} cannot be used: {sentence}", "see its URL and its server")


def _state(error: BaseException) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _sentence(error: BaseException, address: Address) -> str:
    """The driver's own words, on one line."""
    cause = getattr(error, "orig", None) or error
    line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
    line = re.sub(r"^(connection failed|connection is bad): ", "", line)
    return address.without_secrets(re.sub(r"(FATAL|ERROR): +", "", line))
