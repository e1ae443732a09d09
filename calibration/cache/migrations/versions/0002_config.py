"""Keep with each launch the hash of its model's config: what is right and what fails goes by it, times by the shapes.

Launches from before have an empty one: their times count as ever, their verdicts and failures belong to no known
config.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launches", sa.Column("config", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("launches", "config")
