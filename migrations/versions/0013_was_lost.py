"""A query remembers that its message was lost: only then does the route stage claim it before it decides."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column(
        "queries",
        sa.Column(
            "was_lost",
            sa.Boolean,
            nullable=False,
            server_default="false",
            comment="its message was lost once: the route stage claims it before it is decided",
        ),
    )


def downgrade() -> None:
    op.drop_column("queries", "was_lost")
