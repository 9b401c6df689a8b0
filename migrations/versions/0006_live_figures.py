"""Figures of the last minutes, however many rows there are: what happened lately is found by its time."""

from alembic import op

revision = "0006"
down_revision = "0005"

# decisions only ever grows at its end, so block ranges are enough, and cost next to nothing to keep.
# A call ends long after its row was written: its end needs a real index, with one entry per call.
UP = """
CREATE INDEX ix_decisions_at ON decisions USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX ix_calls_finished_at ON calls (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX ix_queries_unanswered ON queries (batch_id, state)
    WHERE state IN ('cancelled', 'dead', 'expired', 'failed');
"""

DOWN = """
DROP INDEX ix_queries_unanswered;
DROP INDEX ix_calls_finished_at;
DROP INDEX ix_decisions_at;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
