"""A batch over HTTP may bring a cap, a policy and a priority of its own."""

from alembic import op

revision = "0011"
down_revision = "0010"

UP = """
ALTER TABLE api_batches
    ADD COLUMN cap_usd numeric(18, 9),
    ADD COLUMN budget_policy text,
    ADD COLUMN priority smallint NOT NULL DEFAULT 0,
    ADD CONSTRAINT ck_api_batches_cap_not_negative CHECK (cap_usd >= 0),
    ADD CONSTRAINT ck_api_batches_budget_policy_known CHECK (budget_policy IN ('hold', 'fail', 'degrade'));
COMMENT ON COLUMN api_batches.cap_usd IS 'as it was asked for; null is the default of the fleet';
"""

DOWN = """
ALTER TABLE api_batches DROP COLUMN priority, DROP COLUMN budget_policy, DROP COLUMN cap_usd;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
