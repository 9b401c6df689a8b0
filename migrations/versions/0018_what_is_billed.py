"""A call's cause and all that decides its price; a query that waits for an account, and the accounts at fault."""

from alembic import op

revision = "0018"
down_revision = "0017"

UP = """
ALTER TABLE calls
    ADD COLUMN cause text,
    ADD COLUMN param text,
    ADD COLUMN answered_by text,
    ADD COLUMN cache_write_tokens integer,
    ADD COLUMN cache_write_1h_tokens integer,
    ADD COLUMN audio_tokens integer,
    ADD COLUMN service_tier text,
    ADD COLUMN reported_usd numeric(18, 9),
    ADD COLUMN computed_usd numeric(18, 9);
COMMENT ON COLUMN calls.cause IS 'the provider''s code word for a failure, or the network''s reason';
COMMENT ON COLUMN calls.param IS 'the field of the request that was refused';
COMMENT ON COLUMN calls.answered_by IS 'the model that the answer names, where it is not the one that was asked';
COMMENT ON COLUMN calls.cache_write_tokens IS 'of the prompt, written to a cache of minutes';
COMMENT ON COLUMN calls.cache_write_1h_tokens IS 'of the prompt, written to a cache of an hour';
COMMENT ON COLUMN calls.audio_tokens IS 'of prompt and completion together';
COMMENT ON COLUMN calls.service_tier IS 'that the answer names, where it is not the standard one';
COMMENT ON COLUMN calls.reported_usd IS 'the provider''s own figure of the cost';
COMMENT ON COLUMN calls.computed_usd IS 'the cost by the price table, where the provider gives a figure too';

ALTER TABLE queries ADD COLUMN held_for text;
COMMENT ON COLUMN queries.held_for IS 'held: the deployment whose account is at fault; null: its budget has no room';
CREATE INDEX ix_queries_held_for ON queries (held_for, id) WHERE state = 'held' AND held_for IS NOT NULL;

CREATE TABLE account_faults (
    deployment text CONSTRAINT pk_account_faults PRIMARY KEY,
    provider text NOT NULL,
    reason text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE account_faults IS 'Deployments whose account the provider refuses, while queries wait for them.';
COMMENT ON COLUMN account_faults.tried_at IS 'when a query was last let go on, to see whether it is over';
GRANT SELECT, INSERT, UPDATE, DELETE ON account_faults TO pointsman_app;
GRANT SELECT ON account_faults TO pointsman_auditor;
"""

DOWN = """
DROP TABLE account_faults;
DROP INDEX ix_queries_held_for;
ALTER TABLE queries DROP COLUMN held_for;
ALTER TABLE calls
    DROP COLUMN computed_usd, DROP COLUMN reported_usd, DROP COLUMN service_tier, DROP COLUMN audio_tokens,
    DROP COLUMN cache_write_1h_tokens, DROP COLUMN cache_write_tokens, DROP COLUMN answered_by, DROP COLUMN param,
    DROP COLUMN cause;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
