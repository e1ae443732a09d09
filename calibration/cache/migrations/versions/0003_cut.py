"""Keep with each launch how many of the model's layers it ran: `6/32` for the first 6 of 32, empty for the whole model.

Launches from before are of the whole model.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launches", sa.Column("cut", sa.String(32), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("launches", "cut")
