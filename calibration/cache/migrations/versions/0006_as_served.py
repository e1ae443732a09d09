"""Keep the verdict on what a server answered to several requests at once, beside the loads that it took."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launches", sa.Column("as_served", sa.Text))


def downgrade() -> None:
    op.drop_column("launches", "as_served")
