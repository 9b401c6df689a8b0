"""Seals over the decisions of ended batches, and what is kept of calls that were purged."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE seals (
    batch_id bigint NOT NULL,
    place integer NOT NULL,
    ids bigint[] NOT NULL,
    row_hashes bytea NOT NULL,
    hash bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_seals PRIMARY KEY (batch_id, place)
);
COMMENT ON COLUMN seals.place IS '1, 2, 3 … within the batch';
COMMENT ON COLUMN seals.ids IS 'the decisions that it covers, ascending';
COMMENT ON COLUMN seals.row_hashes IS 'SHA-256 of each of them, cut to 16 bytes, one after the other';
COMMENT ON COLUMN seals.hash IS 'SHA-256 over the seal before, the ids and the row hashes';
GRANT SELECT, INSERT ON seals TO pointsman_app;
GRANT SELECT ON seals TO pointsman_auditor;

ALTER TABLE batches ADD COLUMN sealed_at timestamptz;
ALTER TABLE batches ADD COLUMN purged_at timestamptz;
COMMENT ON COLUMN batches.sealed_at IS 'all its decisions are under seals';
COMMENT ON COLUMN batches.purged_at IS 'its prompts and answers are gone';
CREATE INDEX ix_batches_unsealed ON batches (id) WHERE ended_at IS NOT NULL AND sealed_at IS NULL;

CREATE TABLE kept_calls (
    batch_id bigint NOT NULL,
    day date NOT NULL,
    tier text NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    purpose text NOT NULL,
    calls bigint NOT NULL,
    ok bigint NOT NULL,
    prompt_tokens bigint,
    completion_tokens bigint,
    cost_usd numeric(18, 9) NOT NULL,
    latency_p50_ms double precision,
    latency_p95_ms double precision,
    CONSTRAINT pk_kept_calls PRIMARY KEY (batch_id, day, tier, model, provider, purpose)
);
COMMENT ON TABLE kept_calls IS 'The figures of calls whose rows were purged.';
GRANT SELECT ON kept_calls TO pointsman_app, pointsman_auditor;
"""

# One text for each decision, whatever the session's settings are, and its hash.
HASH = """
CREATE FUNCTION pointsman_decision_hash(d decisions) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT substring(sha256(convert_to(jsonb_build_array(
        d.id, to_char(d.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), d.batch_id, d.query_id, d.epoch, d.kind,
        d.move, d.from_stage, d.to_stage, d.to_state, d.tier, d.router, d.score, d.confidence, d.propensity, d.call_id,
        to_jsonb(d.reasons), d.detail)::text, 'UTF8')) FOR 16)
$$;
GRANT EXECUTE ON FUNCTION pointsman_decision_hash(decisions) TO pointsman_app, pointsman_auditor;
"""

VIEWS = """
CREATE OR REPLACE VIEW batch_summary AS
SELECT b.handle AS batch_id, b.tenant, b.source, b.created_at, b.ended_at, b.cancelled_at, b.simulated, b.total,
       q.done, q.failed, q.dead, q.cancelled, q.expired, q.open, q.escalated,
       coalesce(c.calls, 0) + coalesce(k.calls, 0) AS calls,
       coalesce(c.cost_usd, 0) + coalesce(k.cost_usd, 0) AS cost_usd,
       coalesce(c.router_cost_usd, 0) + coalesce(k.router_cost_usd, 0) AS router_cost_usd
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE q.state = 'done') AS done,
           count(*) FILTER (WHERE q.state = 'failed') AS failed,
           count(*) FILTER (WHERE q.state = 'dead') AS dead,
           count(*) FILTER (WHERE q.state = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE q.state = 'expired') AS expired,
           count(*) FILTER (WHERE q.finished_at IS NULL) AS open,
           count(*) FILTER (WHERE q.escalations > 0) AS escalated
    FROM queries AS q
    WHERE q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
) AS q
LEFT JOIN LATERAL (
    SELECT count(*) AS calls, sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd,
           sum(coalesce(c.cost_usd, c.reserved_usd)) FILTER (WHERE c.purpose = 'route') AS router_cost_usd
    FROM calls AS c WHERE c.batch_id = b.id
) AS c ON true
LEFT JOIN LATERAL (
    SELECT CAST(sum(k.calls) AS bigint) AS calls, sum(k.cost_usd) AS cost_usd,
           sum(k.cost_usd) FILTER (WHERE k.purpose = 'route') AS router_cost_usd
    FROM kept_calls AS k WHERE k.batch_id = b.id
) AS k ON true;

CREATE OR REPLACE VIEW tier_daily AS
SELECT date_trunc('day', c.created_at AT TIME ZONE 'UTC')::date AS day, c.tier, c.model, c.purpose,
       count(*) AS calls, count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
       sum(c.prompt_tokens) AS prompt_tokens, sum(c.completion_tokens) AS completion_tokens,
       sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p95_ms
FROM calls AS c
GROUP BY 1, 2, 3, 4
UNION ALL
SELECT k.day, k.tier, k.model, k.purpose,
       CAST(sum(k.calls) AS bigint), CAST(sum(k.ok) AS bigint),
       CAST(sum(k.prompt_tokens) AS bigint), CAST(sum(k.completion_tokens) AS bigint), sum(k.cost_usd),
       -- Of what is purged only each batch's percentiles are left: their mean, weighted by calls.
       sum(k.latency_p50_ms * k.calls) / nullif(sum(k.calls), 0), max(k.latency_p95_ms)
FROM kept_calls AS k
GROUP BY 1, 2, 3, 4;
"""

VIEWS_BEFORE = """
CREATE VIEW batch_summary AS
SELECT b.handle AS batch_id, b.tenant, b.source, b.created_at, b.ended_at, b.cancelled_at, b.simulated, b.total,
       q.done, q.failed, q.dead, q.cancelled, q.expired, q.open, q.escalated,
       coalesce(c.calls, 0) AS calls, coalesce(c.cost_usd, 0) AS cost_usd,
       coalesce(c.router_cost_usd, 0) AS router_cost_usd
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE q.state = 'done') AS done,
           count(*) FILTER (WHERE q.state = 'failed') AS failed,
           count(*) FILTER (WHERE q.state = 'dead') AS dead,
           count(*) FILTER (WHERE q.state = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE q.state = 'expired') AS expired,
           count(*) FILTER (WHERE q.finished_at IS NULL) AS open,
           count(*) FILTER (WHERE q.escalations > 0) AS escalated
    FROM queries AS q
    WHERE q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
) AS q
LEFT JOIN LATERAL (
    SELECT count(*) AS calls, sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd,
           sum(coalesce(c.cost_usd, c.reserved_usd)) FILTER (WHERE c.purpose = 'route') AS router_cost_usd
    FROM calls AS c WHERE c.batch_id = b.id
) AS c ON true;

CREATE VIEW tier_daily AS
SELECT date_trunc('day', c.created_at AT TIME ZONE 'UTC')::date AS day, c.tier, c.model, c.purpose,
       count(*) AS calls, count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
       sum(c.prompt_tokens) AS prompt_tokens, sum(c.completion_tokens) AS completion_tokens,
       sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p95_ms
FROM calls AS c
GROUP BY 1, 2, 3, 4;
GRANT SELECT ON batch_summary, tier_daily TO pointsman_app, pointsman_auditor;
"""


def upgrade() -> None:
    for part in (TABLES, HASH, VIEWS):
        op.get_bind().exec_driver_sql(part.replace("%", "%%"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP VIEW batch_summary, tier_daily")
    op.get_bind().exec_driver_sql(VIEWS_BEFORE)
    op.get_bind().exec_driver_sql(
        """
        DROP TABLE kept_calls, seals;
        DROP FUNCTION pointsman_decision_hash(decisions);
        ALTER TABLE batches DROP COLUMN sealed_at, DROP COLUMN purged_at;
        """
    )
