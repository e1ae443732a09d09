"""The address of a database server: a URL whose password is never shown. Standard library only."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from calibration.errors import CacheError

FORM = "postgresql://USER:PASSWORD@HOST:PORT/NAME"

_AUTHORITY = re.compile(
    r"(?:(?P<user>[^:@]*)(?::(?P<password>[^@]*))?@)?(?P<host>(?:\[[^\[\]@]*\]|[^:@\[\]]*)(?::\d*)?)"
)
_SECRET = re.compile(r"pass(?!file)|secret|token", re.IGNORECASE)
"""Options of a URL whose values are not shown: `password`, `sslpassword`; `passfile` is a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a database server is."""

    url: str = field(repr=False)
    """SQLAlchemy's, with the password."""
    shown: str
    """As it may be printed: the password is `***`."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must be in no message."""
    options: frozenset[str]
    """Names of the driver's options that it sets: sslmode, connect_timeout ..."""
    user: str
    """Empty: the driver's default."""

    @property
    def dialect(self) -> str:
        return self.url.partition(":")[0].partition("+")[0]

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read a URL.

        Raises:
            CacheError: it is none, or of another database than SQLite and PostgreSQL. The message has no part of it
                that may be of a password.
        """
        scheme, _, rest = text.partition("://")
        dialect, _, driver = scheme.partition("+")
        if dialect == "sqlite":
            return cls(url=text, shown=text, secrets=(), options=frozenset(), user="")
        if dialect not in {"postgresql", "postgres"}:
            raise CacheError(
                f"the cache {scheme}://... is of a database that autobackend does not use",
                f"name a file, or a PostgreSQL database: {FORM}",
            )
        if driver not in {"", "psycopg"}:
            raise CacheError(
                f"the cache {scheme}://... names the driver {driver}; autobackend uses psycopg", f"write it as {FORM}"
            )
        location, _, query = rest.partition("?")
        authority, slash, database = location.partition("/")
        parts = _AUTHORITY.fullmatch(authority)
        options = [option.partition("=") for option in query.split("&")] if query else []
        if parts is None or "@" in database or "#" in location or not all(equals for _, equals, _ in options):
            raise CacheError(
                f"the cache {scheme}://... is no URL that can be read",
                f"write it as {FORM}; of a password's characters @ is %40, : is %3A, / is %2F, ? is %3F and # is %23",
            )
        password = parts["password"]
        user = unquote(parts["user"] or "") or next(
            (unquote(value) for name, _, value in options if name == "user"), ""
        )
        hidden = [value for name, _, value in options if _SECRET.search(name)]
        told = "&".join(f"{name}={'***' if _SECRET.search(name) else value}" for name, _, value in options)
        account = "" if parts["user"] is None else f"{parts['user']}{':***' if password is not None else ''}@"
        return cls(
            url=f"postgresql+psycopg://{rest}",
            shown=f"postgresql://{account}{parts['host']}{slash}{database}{'?' if told else ''}{told}",
            secrets=tuple(sorted({s for secret in (password, *hidden) if secret for s in (secret, unquote(secret))})),
            options=frozenset(name for name, _, _ in options),
            user=user,
        )

    def without_secrets(self, text: str) -> str:
        """The text with `***` for each secret of three characters or more; shorter ones are in every word."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***") if len(secret) > 2 else text
        return text
