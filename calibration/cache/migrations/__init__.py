"""The migrations of the cache and what runs them; alembic is imported only where a migration is to be run."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from calibration.cache.sqlite_file import VERSION, VERSION_TABLE, refuse_newer


def upgrade(engine: Engine, location: str) -> None:
    """Bring the tables up to date, all or nothing; several processes may try at once.

    Raises:
        CacheError: the cache is of a newer version than VERSION.
    """
    with engine.begin() as connection:
        version = None
        if inspect(connection).has_table(VERSION_TABLE):
            version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
        if version == VERSION:
            return
        refuse_newer(version, location)
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.upgrade(config, "head")
