"""What alembic runs for every migration of the cache: on the connection, and inside the transaction, it is handed."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
