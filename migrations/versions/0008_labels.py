"""Labels: whether an answer was right, by whom and when."""

from alembic import op

revision = "0008"
down_revision = "0007"

UP = """
CREATE TABLE labels (
    id bigserial CONSTRAINT pk_labels PRIMARY KEY,
    query_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    tier text NOT NULL,
    grade double precision NOT NULL,
    source text NOT NULL,
    said_by text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_labels_grade_share CHECK (grade >= 0 AND grade <= 1)
);
COMMENT ON TABLE labels IS 'How right an answer was; of several for one query and tier the newest counts.';
COMMENT ON COLUMN labels.tier IS 'whose answer is meant: the one that stood, or one that was rejected';
COMMENT ON COLUMN labels.grade IS '0 wrong to 1 right';
COMMENT ON COLUMN labels.source IS 'file, command, web';
CREATE INDEX ix_labels_query_id ON labels (query_id, tier, id);
CREATE INDEX ix_labels_batch_id ON labels (batch_id);
GRANT SELECT, INSERT ON labels TO pointsman_app;
GRANT USAGE ON SEQUENCE labels_id_seq TO pointsman_app;
GRANT SELECT ON labels TO pointsman_auditor;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute("DROP TABLE labels")
