"""What a held query waits for, so that room goes to those that it is enough for."""

from alembic import op

revision = "0004"
down_revision = "0003"

UP = """
ALTER TABLE queries ADD COLUMN needs_usd numeric(18, 9);
ALTER TABLE queries ADD COLUMN yields boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN queries.needs_usd IS 'held: the reservation that had no room';
COMMENT ON COLUMN queries.yields IS 'held: once all that is left is less than that, a claim lowers or fails it';
DROP INDEX ix_queries_held;
CREATE INDEX ix_queries_held ON queries (batch_id, needs_usd, id) WHERE state = 'held';
"""

DOWN = """
DROP INDEX ix_queries_held;
CREATE INDEX ix_queries_held ON queries (batch_id) WHERE state = 'held';
ALTER TABLE queries DROP COLUMN yields;
ALTER TABLE queries DROP COLUMN needs_usd;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
