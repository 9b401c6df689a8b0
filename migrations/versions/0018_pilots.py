"""Pilots: a sample of a batch that climbs every tier, its certificate, and audits of what was answered below."""

from alembic import op

revision = "0018"
down_revision = "0017"

UP = """
ALTER TABLE queries ADD COLUMN pilot boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN queries.pilot IS 'of the sample that every tier answers';
CREATE INDEX ix_queries_pilot ON queries (batch_id) WHERE pilot;
ALTER TABLE calls DROP CONSTRAINT ck_calls_purpose_known;
ALTER TABLE calls ADD CONSTRAINT ck_calls_purpose_known
    CHECK (purpose IN ('answer', 'hedge', 'route', 'grade', 'audit'));
CREATE TABLE pilots (
    batch_id bigint PRIMARY KEY,
    floor double precision NOT NULL,
    confidence double precision NOT NULL,
    seed bigint NOT NULL,
    max_queries integer,
    stops boolean NOT NULL DEFAULT false,
    audit_share double precision NOT NULL,
    state text NOT NULL,
    lease_until timestamptz,
    certificate jsonb,
    policy jsonb,
    weights bytea,
    extensions smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    breached_at timestamptz,
    CONSTRAINT ck_pilots_state_known CHECK (state IN ('sampling', 'deciding', 'decided')),
    CONSTRAINT ck_pilots_lease_is_deciding CHECK ((lease_until IS NOT NULL) = (state = 'deciding')),
    CONSTRAINT ck_pilots_decided_whole CHECK ((state = 'decided') = (decided_at IS NOT NULL))
);
CREATE INDEX ix_pilots_undecided ON pilots (batch_id) WHERE state <> 'decided';
CREATE TABLE audits (
    query_id bigint PRIMARY KEY,
    batch_id bigint NOT NULL,
    call_id bigint NOT NULL,
    tier text NOT NULL,
    grade double precision NOT NULL,
    reference_grade double precision NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_audits_batch_id ON audits (batch_id);
COMMENT ON COLUMN pilots.floor IS 'quality relative to the top tier that answers must keep';
COMMENT ON COLUMN pilots.confidence IS 'of the certificate';
COMMENT ON COLUMN pilots.seed IS 'which queries are sampled';
COMMENT ON COLUMN pilots.max_queries IS 'the user''s limit of the sample';
COMMENT ON COLUMN pilots.stops IS 'the rest is not answered: `try`';
COMMENT ON COLUMN pilots.audit_share IS 'of what is accepted below the top tier';
COMMENT ON COLUMN pilots.lease_until IS 'deciding: until when the worker that decides may take';
COMMENT ON COLUMN pilots.policy IS 'kind default, top or ladder, with what its weights need';
COMMENT ON COLUMN pilots.weights IS 'the ladder policy''s arrays, npz';
COMMENT ON COLUMN pilots.extensions IS 'how often more was sampled';
COMMENT ON COLUMN pilots.breached_at IS 'an audit found the floor broken';
COMMENT ON COLUMN audits.tier IS 'whose answer was accepted';
GRANT SELECT, INSERT, UPDATE ON pilots TO pointsman_app;
GRANT SELECT, INSERT ON audits TO pointsman_app;
GRANT SELECT ON pilots, audits TO pointsman_auditor;
"""

DOWN = """
DROP TABLE audits;
DROP TABLE pilots;
DROP INDEX ix_queries_pilot;
ALTER TABLE queries DROP COLUMN pilot;
ALTER TABLE calls DROP CONSTRAINT ck_calls_purpose_known;
ALTER TABLE calls ADD CONSTRAINT ck_calls_purpose_known CHECK (purpose IN ('answer', 'hedge', 'route'));
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UP.replace("%", "%%"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWN.replace("%", "%%"))
