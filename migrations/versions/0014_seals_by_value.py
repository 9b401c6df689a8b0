"""Seals over the values of a decision instead of a text of them, kept as they are; older ones keep their hash."""

from alembic import op

revision = "0014"
down_revision = "0013"

# A new column with a constant default, and how values are stored from now on: the catalogue changes, and no row.
UP = """
ALTER TABLE seals ADD COLUMN version smallint NOT NULL DEFAULT 1;
COMMENT ON COLUMN seals.version IS 'how its decisions were hashed: 1 by a text of each, 2 by its values';
ALTER TABLE seals ALTER COLUMN ids SET STORAGE EXTERNAL, ALTER COLUMN row_hashes SET STORAGE EXTERNAL;

-- Each value as Postgres sends it, with its type and length: no setting of a session changes that, but the encoding
-- of the client, which is UTF-8 for all of ours.
CREATE FUNCTION pointsman_decision_hash_2(d decisions) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT substring(sha256(record_send(ROW(
        d.id, d.at, d.batch_id, d.query_id, d.epoch, d.kind, d.move, d.from_stage, d.to_stage, d.to_state, d.tier,
        d.router, d.score, d.confidence, d.propensity, d.call_id, d.reasons, d.detail))) FOR 16)
$$;
GRANT EXECUTE ON FUNCTION pointsman_decision_hash_2(decisions) TO pointsman_app, pointsman_auditor;
"""

# What is older cannot check the newer seals: they are the last ones of their batches, which are sealed again.
DOWN = """
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM seals AS s WHERE s.version = 2
               AND NOT EXISTS (SELECT 1 FROM decisions AS d WHERE d.batch_id = s.batch_id)) THEN
        RAISE EXCEPTION 'the decisions of a sealed batch are purged: its seals would be lost on the way down';
    END IF;
END $$;
UPDATE batches SET sealed_at = NULL WHERE id IN (SELECT batch_id FROM seals WHERE version = 2);
DELETE FROM seals WHERE version = 2;
DROP FUNCTION pointsman_decision_hash_2(decisions);
ALTER TABLE seals DROP COLUMN version;
ALTER TABLE seals ALTER COLUMN ids SET STORAGE EXTENDED, ALTER COLUMN row_hashes SET STORAGE EXTENDED;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
