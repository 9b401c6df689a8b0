"""What the HTTP service keeps: tenants and their keys, files, batches as the Batch API shows them, webhooks."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE tenants (
    name text CONSTRAINT pk_tenants PRIMARY KEY,
    requests_per_min integer,
    day_usd numeric(18, 9),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_tenants_limits_positive CHECK (requests_per_min > 0 AND day_usd >= 0)
);

CREATE TABLE api_keys (
    id text CONSTRAINT pk_api_keys PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE files (
    id text CONSTRAINT pk_files PRIMARY KEY,
    tenant text NOT NULL,
    purpose text NOT NULL,
    filename text NOT NULL,
    bytes bigint NOT NULL DEFAULT 0,
    content text NOT NULL,
    batch text,
    ready boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    CONSTRAINT ck_files_content_known CHECK (content IN ('stored', 'output', 'errors')),
    CONSTRAINT ck_files_batch_has_results CHECK ((batch IS NULL) = (content = 'stored'))
);
CREATE INDEX ix_files_tenant_created_at ON files (tenant, created_at, id);
CREATE INDEX ix_files_batch ON files (batch) WHERE batch IS NOT NULL;

CREATE TABLE file_pieces (
    file_id text NOT NULL,
    place integer NOT NULL,
    data bytea NOT NULL,
    CONSTRAINT pk_file_pieces PRIMARY KEY (file_id, place)
);
ALTER TABLE file_pieces ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE api_batches (
    handle text CONSTRAINT pk_api_batches PRIMARY KEY,
    tenant text NOT NULL,
    input_file_id text,
    endpoint text NOT NULL,
    completion_window text NOT NULL,
    window_s integer,
    output_expires_after_s integer,
    metadata jsonb,
    idempotency_key text,
    fingerprint text,
    status text NOT NULL,
    errors jsonb,
    lease_until timestamptz,
    tries smallint NOT NULL DEFAULT 0,
    output_file_id text,
    error_file_id text,
    counts jsonb,
    usage jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    accepted_at timestamptz,
    cancelling_at timestamptz,
    failed_at timestamptz,
    finalized_at timestamptz,
    CONSTRAINT uq_api_batches_tenant_idempotency_key UNIQUE (tenant, idempotency_key),
    CONSTRAINT ck_api_batches_status_known CHECK (status IN ('validating', 'accepted', 'failed', 'cancelled')),
    CONSTRAINT ck_api_batches_failed_says_why CHECK ((status = 'failed') = (errors IS NOT NULL))
);
CREATE INDEX ix_api_batches_tenant_created_at ON api_batches (tenant, created_at, handle);
CREATE INDEX ix_api_batches_unfinished ON api_batches (created_at)
    WHERE status = 'validating' OR status = 'accepted' AND finalized_at IS NULL;
CREATE INDEX ix_api_batches_input_file_id ON api_batches (input_file_id) WHERE status = 'validating';

CREATE TABLE webhooks (
    id text CONSTRAINT pk_webhooks PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    url text NOT NULL,
    events text[] NOT NULL,
    secret text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    gone_at timestamptz
);
CREATE INDEX ix_webhooks_tenant_created_at ON webhooks (tenant, created_at);

CREATE TABLE webhook_messages (
    id text NOT NULL,
    webhook_id text NOT NULL,
    tenant text NOT NULL,
    event text NOT NULL,
    batch text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz DEFAULT now(),
    tries smallint NOT NULL DEFAULT 0,
    last_result text,
    delivered_at timestamptz,
    CONSTRAINT pk_webhook_messages PRIMARY KEY (id, webhook_id)
);
CREATE INDEX ix_webhook_messages_due_at ON webhook_messages (due_at) WHERE due_at IS NOT NULL;

COMMENT ON COLUMN tenants.requests_per_min IS 'null is no limit';
COMMENT ON COLUMN tenants.day_usd IS 'the most it may spend on a UTC day; null is the limit of the fleet';
COMMENT ON COLUMN api_keys.id IS 'the part of a key that may be shown';
COMMENT ON COLUMN api_keys.hash IS 'SHA-256 of the key, which has 256 bits of chance';
COMMENT ON COLUMN files.content IS 'stored: in file_pieces; output, errors: read from the ledger';
COMMENT ON COLUMN files.batch IS 'whose results it is';
COMMENT ON COLUMN files.ready IS 'false while it is uploaded';
COMMENT ON COLUMN api_batches.handle IS 'that of its row in batches, once it is accepted';
COMMENT ON COLUMN api_batches.input_file_id IS 'null where it did not come over HTTP';
COMMENT ON COLUMN api_batches.fingerprint IS 'SHA-256 of what was asked, by which a retry is known';
COMMENT ON COLUMN api_batches.lease_until IS 'somebody validates or finalizes it';
COMMENT ON COLUMN api_batches.counts IS 'of its queries, once it is finalized';
COMMENT ON COLUMN webhooks.secret IS 'with which messages are signed, so it has to be kept as it is';
COMMENT ON COLUMN webhooks.gone_at IS 'the receiver said 410: nothing is sent any more';
COMMENT ON COLUMN webhook_messages.due_at IS 'null once it was delivered or given up';

GRANT SELECT, INSERT, UPDATE, DELETE
    ON tenants, api_keys, files, file_pieces, api_batches, webhooks, webhook_messages TO pointsman_app;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(TABLES)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        "DROP TABLE webhook_messages, webhooks, api_batches, file_pieces, files, api_keys, tenants"
    )
