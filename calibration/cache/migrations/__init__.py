"""The migrations of the cache and what runs them; alembic is imported only where a migration is to be run."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text

from calibration.cache.sqlite_file import VERSION, VERSION_TABLE, refuse_newer

LOCK: Final = 0x6175746F6261636B
"""PostgreSQL's advisory lock of whoever migrates: `autoback` in ASCII, so that no other program has it by chance."""


def version_of(engine: Engine) -> str | None:
    """The newest migration that a database has seen; None where there is no table yet."""
    with engine.connect() as connection:
        return _version(connection)


def upgrade(engine: Engine, location: str) -> None:
    """Bring the tables up to date, all or nothing; where several processes try at once, one does it.

    Raises:
        CacheError: the cache is of a newer version than VERSION.
    """
    if engine.dialect.name == "postgresql" and version_of(engine) == VERSION:
        return  # the lock is for those who have something to do
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Given back with the transaction, whatever becomes of it; SQLite's BEGIN IMMEDIATE is such a lock.
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        version = _version(connection)
        if version == VERSION:
            return
        refuse_newer(version, location)
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return None if version is None else str(version)
