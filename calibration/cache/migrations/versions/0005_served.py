"""Keep launches that were served under load: with how many slots and threads, and the raw samples of each load."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launches", sa.Column("slots", sa.Integer))
    op.add_column("launches", sa.Column("threads", sa.Integer))
    op.add_column("launches", sa.Column("points", sa.Text))


def downgrade() -> None:
    for name in ("points", "threads", "slots"):
        op.drop_column("launches", name)
