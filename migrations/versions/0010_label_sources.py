"""A label says whether its answer came up by chance or because it was doubtful."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("COMMENT ON COLUMN labels.source IS 'file, command, web, web-uncertain'")


def downgrade() -> None:
    op.execute("COMMENT ON COLUMN labels.source IS 'file, command, web'")
