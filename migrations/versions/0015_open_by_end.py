"""What is open is found by its end, which it has not, so that no other question is answered by that index."""

from alembic import op

revision = "0015"
down_revision = "0014"

UP = """
DROP INDEX ix_queries_open;
CREATE INDEX ix_queries_open ON queries (batch_id) WHERE finished_at IS NULL;
"""

DOWN = """
DROP INDEX ix_queries_open;
CREATE INDEX ix_queries_open ON queries (batch_id) WHERE state IN ('held', 'queued', 'ready', 'running');
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
