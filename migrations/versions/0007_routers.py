"""Trained routers: what each is, its files, and which one served from when to when, by whose word."""

from alembic import op

revision = "0007"
down_revision = "0006"

UP = """
CREATE TABLE routers (
    name text CONSTRAINT pk_routers PRIMARY KEY,
    digest text NOT NULL,
    data_sha256 text NOT NULL,
    manifest jsonb NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    added_by text NOT NULL
);
COMMENT ON COLUMN routers.digest IS 'SHA-256 of its manifest.json, and through it of every file';
COMMENT ON COLUMN routers.data_sha256 IS 'of the file it was trained on';
COMMENT ON COLUMN routers.manifest IS 'what is known of it: tiers, features, figures';

CREATE TABLE router_files (
    digest text NOT NULL,
    file text NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT pk_router_files PRIMARY KEY (digest, file)
);
COMMENT ON TABLE router_files IS 'The files of each version that was ever registered; they never change.';

CREATE TABLE router_promotions (
    id bigserial CONSTRAINT pk_router_promotions PRIMARY KEY,
    name text NOT NULL,
    digest text,
    promoted_at timestamptz NOT NULL DEFAULT now(),
    promoted_by text NOT NULL,
    undone_at timestamptz,
    undone_by text,
    CONSTRAINT ck_router_promotions_undone_whole CHECK ((undone_at IS NULL) = (undone_by IS NULL))
);
COMMENT ON TABLE router_promotions IS 'The newest that is not undone serves.';
COMMENT ON COLUMN router_promotions.digest IS 'null is the router that is shipped';

ALTER TABLE workers ADD COLUMN router text;
COMMENT ON COLUMN workers.router IS 'the trained router that it decides by: name and version';

GRANT SELECT, INSERT, UPDATE ON routers TO pointsman_app;
GRANT SELECT, INSERT ON router_files TO pointsman_app;
GRANT SELECT, INSERT, UPDATE (undone_at, undone_by) ON router_promotions TO pointsman_app;
GRANT USAGE ON SEQUENCE router_promotions_id_seq TO pointsman_app;
GRANT SELECT ON routers, router_promotions TO pointsman_auditor;
"""

DOWN = """
ALTER TABLE workers DROP COLUMN router;
DROP TABLE router_promotions;
DROP TABLE router_files;
DROP TABLE routers;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
