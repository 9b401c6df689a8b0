"""A resume raises the epoch too: what was under way before it moves its queries no more."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("COMMENT ON COLUMN queries.epoch IS 'fencing token: a claim or a resume raises it'")


def downgrade() -> None:
    op.execute("COMMENT ON COLUMN queries.epoch IS 'fencing token: only a claim raises it'")
