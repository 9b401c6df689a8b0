"""What candidate routers would have decided."""

from alembic import op

revision = "0009"
down_revision = "0008"

UP = """
CREATE TABLE shadows (
    query_id bigint NOT NULL,
    router text NOT NULL,
    batch_id bigint NOT NULL,
    tier text NOT NULL,
    stage text NOT NULL,
    confidence double precision NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_shadows PRIMARY KEY (query_id, router)
);
COMMENT ON TABLE shadows IS 'What a candidate router would have decided; nothing came of it.';
COMMENT ON COLUMN shadows.stage IS 'whose word it was: gate, classifier, prior';
CREATE INDEX ix_shadows_batch_id ON shadows (batch_id);
GRANT SELECT, INSERT, UPDATE ON shadows TO pointsman_app;
GRANT SELECT ON shadows TO pointsman_auditor;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute("DROP TABLE shadows")
