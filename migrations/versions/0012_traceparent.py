"""A batch keeps the trace context that its client sent, so that its spans join the client's trace."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("batches", sa.Column("traceparent", sa.Text, comment="W3C trace context of the client that sent it"))
    op.add_column("api_batches", sa.Column("traceparent", sa.Text))


def downgrade() -> None:
    op.drop_column("api_batches", "traceparent")
    op.drop_column("batches", "traceparent")
