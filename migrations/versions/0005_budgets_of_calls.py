"""A call names the budgets that hold its reservation: one that comes later must not free what it never held."""

from alembic import op

revision = "0005"
down_revision = "0004"

UP = """
ALTER TABLE calls ADD COLUMN budget_ids bigint[] NOT NULL DEFAULT '{}'::bigint[];
COMMENT ON COLUMN calls.budget_ids IS 'the budgets that hold its reservation; one that came later does not';
UPDATE calls AS c SET budget_ids = ARRAY(
    SELECT g.id FROM budgets AS g JOIN batches AS b ON b.id = c.batch_id
    WHERE g.batch_id = c.batch_id
       OR (g.tenant = b.tenant AND g.day = CAST(c.created_at AT TIME ZONE 'UTC' AS date))
    ORDER BY g.id)
WHERE c.budgeted AND c.outcome IS NULL;
ALTER TABLE calls DROP COLUMN budgeted;
"""

DOWN = """
ALTER TABLE calls ADD COLUMN budgeted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN calls.budgeted IS 'its reservation is in a budget';
UPDATE calls SET budgeted = true WHERE budget_ids <> '{}';
ALTER TABLE calls DROP COLUMN budget_ids;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
