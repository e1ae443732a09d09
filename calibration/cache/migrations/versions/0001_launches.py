"""Make the table of launches: one row for every process of a candidate, measured or failed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "launches",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("calibration_id", sa.Text, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("backend", sa.Text, nullable=False),
        sa.Column("variant", sa.Text, nullable=False),
        # The key, as the users of the cache think of it; then what makes it exact.
        sa.Column("architecture", sa.String(200), nullable=False),
        sa.Column("quant", sa.String(100), nullable=False),
        sa.Column("device", sa.String(200), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("dtype", sa.Text, nullable=False),
        sa.Column("device_count", sa.Integer, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("record", sa.String(16), nullable=False),
        # A measurement; null in a failure.
        sa.Column("load_s", sa.Double),
        sa.Column("prepare_s", sa.Double),
        sa.Column("artifact_bytes", sa.BigInteger),
        sa.Column("peak_memory_bytes", sa.BigInteger),
        sa.Column("gpu_memory_bytes", sa.BigInteger),
        sa.Column("agreement", sa.Text),
        sa.Column("cells", sa.Text),
        # A failure; null in a measurement.
        sa.Column("kind", sa.Text),
        sa.Column("stage", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("log_tail", sa.Text),
    )
    op.create_index("launches_by_key", "launches", ["architecture", "quant", "device", "fingerprint"])


def downgrade() -> None:
    op.drop_table("launches")
