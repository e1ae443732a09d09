"""Let PostgreSQL count what changes, so that readers know whether what they remember still holds.

An SQLite file tells that by itself. A counter in one row would make writers wait for each other until they commit, so
there are 64 rows: a session adds to the row of its number, and readers take the sum. Whoever sees a transaction's rows
sees its count, since both were written in it.

The launches that were added last are found by a number that counts up, as SQLite has it in each table. Names are texts
of any length, as in SQLite.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROWS = 64
TABLES = ("launches", "probes")
TEXTS = {"launches": ("architecture", "quant", "device", "config"), "probes": ("host",)}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "changes",
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.execute(f"INSERT INTO changes SELECT place, 0 FROM generate_series(0, {ROWS - 1}) AS place")  # noqa: S608  a number
    op.execute(
        "CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"  # noqa: S608  a number
        f" UPDATE changes SET count = count + 1 WHERE place = pg_backend_pid() % {ROWS};"
        " RETURN NULL; END $$"
    )
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION count_change()"
        )
        for column in TEXTS[table]:
            op.alter_column(table, column, type_=sa.Text)
    op.execute("ALTER TABLE launches ADD COLUMN added bigint GENERATED ALWAYS AS IDENTITY")
    op.create_index("launches_by_addition", "launches", ["added"])


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.drop_column("launches", "added")
    for table in TABLES:
        op.execute(f"DROP TRIGGER count_change ON {table}")
    op.execute("DROP FUNCTION count_change")
    op.drop_table("changes")
