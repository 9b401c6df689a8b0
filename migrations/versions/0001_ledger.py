"""The ledger: batches, queries, prompts, calls, answers, decisions, workers, stages."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE SEQUENCE query_blocks;
CREATE SEQUENCE call_blocks;

CREATE TABLE batches (
    id bigserial CONSTRAINT pk_batches PRIMARY KEY,
    handle text NOT NULL CONSTRAINT uq_batches_handle UNIQUE,
    tenant text NOT NULL DEFAULT 'default',
    idempotency_key text,
    source text NOT NULL,
    endpoint text NOT NULL DEFAULT '/v1/chat/completions',
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    total integer NOT NULL,
    first_query_id bigint NOT NULL,
    last_query_id bigint NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    fleet text NOT NULL,
    fleet_digest text NOT NULL,
    simulated boolean NOT NULL,
    plan jsonb,
    budget_policy text NOT NULL DEFAULT 'hold',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    cancelled_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT uq_batches_tenant_idempotency_key UNIQUE (tenant, idempotency_key),
    CONSTRAINT ck_batches_total_positive CHECK (total > 0),
    CONSTRAINT ck_batches_budget_policy_known CHECK (budget_policy IN ('hold', 'fail', 'degrade'))
);
CREATE INDEX ix_batches_open ON batches (id) WHERE ended_at IS NULL;
CREATE INDEX ix_batches_tenant_created_at ON batches (tenant, created_at);

CREATE TABLE budgets (
    id bigserial CONSTRAINT pk_budgets PRIMARY KEY,
    batch_id bigint CONSTRAINT uq_budgets_batch_id UNIQUE,
    tenant text,
    day date,
    cap_usd numeric(18, 9) NOT NULL,
    reserved_usd numeric(18, 9) NOT NULL DEFAULT 0,
    settled_usd numeric(18, 9) NOT NULL DEFAULT 0,
    largest_usd numeric(18, 9) NOT NULL DEFAULT 0,
    CONSTRAINT uq_budgets_tenant_day UNIQUE (tenant, day),
    CONSTRAINT ck_budgets_one_owner CHECK (
        (batch_id IS NOT NULL) <> (tenant IS NOT NULL) AND (tenant IS NULL) = (day IS NULL)),
    CONSTRAINT ck_budgets_not_negative CHECK (cap_usd >= 0 AND reserved_usd >= 0)
);

CREATE TABLE queries (
    id bigint CONSTRAINT pk_queries PRIMARY KEY,
    batch_id bigint NOT NULL,
    stage text NOT NULL,
    state text NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    tier text,
    due_at timestamptz NOT NULL DEFAULT now(),
    moved_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    worker_id bigint,
    prefers text,
    crashes smallint NOT NULL DEFAULT 0,
    attempts smallint NOT NULL DEFAULT 0,
    escalations smallint NOT NULL DEFAULT 0,
    finished_at timestamptz,
    CONSTRAINT ck_queries_state_known CHECK (state IN (
        'cancelled', 'dead', 'done', 'expired', 'failed', 'held', 'queued', 'ready', 'running')),
    CONSTRAINT ck_queries_finished_is_terminal CHECK (
        (finished_at IS NOT NULL) = (state IN ('cancelled', 'dead', 'done', 'expired', 'failed'))),
    CONSTRAINT ck_queries_lease_is_running CHECK ((lease_until IS NOT NULL) = (state = 'running'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
CREATE INDEX ix_queries_ready ON queries (stage, batch_id, due_at, id) WHERE state = 'ready';
CREATE INDEX ix_queries_queued ON queries (stage) WHERE state = 'queued';
CREATE INDEX ix_queries_running ON queries (lease_until) WHERE state = 'running';
CREATE INDEX ix_queries_held ON queries (batch_id) WHERE state = 'held';
CREATE INDEX ix_queries_open ON queries (batch_id) WHERE state IN ('held', 'queued', 'ready', 'running');

CREATE TABLE prompts (
    query_id bigint CONSTRAINT pk_prompts PRIMARY KEY,
    batch_id bigint NOT NULL,
    custom_id text NOT NULL,
    line integer NOT NULL,
    body json NOT NULL,
    options json,
    CONSTRAINT uq_prompts_batch_id_custom_id UNIQUE (batch_id, custom_id)
);

CREATE TABLE answers (
    query_id bigint CONSTRAINT pk_answers PRIMARY KEY,
    call_id bigint NOT NULL,
    tier text NOT NULL,
    model text NOT NULL,
    confidence double precision,
    accepted boolean NOT NULL,
    response json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE calls (
    id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    batch_id bigint NOT NULL,
    query_id bigint,
    epoch integer NOT NULL,
    purpose text NOT NULL,
    tier text NOT NULL,
    deployment text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    worker_id bigint,
    reserved_usd numeric(18, 9) NOT NULL,
    price_version text NOT NULL,
    budgeted boolean NOT NULL DEFAULT false,
    outcome text,
    status smallint,
    latency_ms double precision,
    prompt_tokens integer,
    cached_tokens integer,
    completion_tokens integer,
    reasoning_tokens integer,
    cost_usd numeric(18, 9),
    request_id text,
    finish_reason text,
    mean_logprob double precision,
    response json,
    finished_at timestamptz,
    CONSTRAINT pk_calls PRIMARY KEY (id, created_at),
    CONSTRAINT ck_calls_purpose_known CHECK (purpose IN ('answer', 'hedge', 'route')),
    CONSTRAINT ck_calls_result_whole CHECK (
        (outcome IS NULL) = (finished_at IS NULL) AND (outcome IS NULL) = (cost_usd IS NULL))
) PARTITION BY RANGE (created_at);
CREATE INDEX ix_calls_batch_id ON calls (batch_id);
CREATE INDEX ix_calls_open ON calls (created_at) WHERE outcome IS NULL;
CREATE INDEX ix_calls_query_id ON calls (query_id);

CREATE TABLE decisions (
    id bigserial NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    batch_id bigint NOT NULL,
    query_id bigint NOT NULL,
    epoch integer NOT NULL,
    kind text NOT NULL,
    move text NOT NULL,
    from_stage text NOT NULL,
    to_stage text NOT NULL,
    to_state text NOT NULL,
    tier text,
    router text,
    score double precision,
    confidence double precision,
    propensity double precision,
    call_id bigint,
    reasons text[] NOT NULL,
    detail jsonb,
    CONSTRAINT pk_decisions PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX ix_decisions_batch_id ON decisions (batch_id);
CREATE INDEX ix_decisions_query_id ON decisions (query_id);

CREATE TABLE workers (
    id bigserial CONSTRAINT pk_workers PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    stopped_at timestamptz,
    in_flight integer NOT NULL DEFAULT 0,
    slots integer NOT NULL DEFAULT 0
);

CREATE TABLE stages (
    stage text CONSTRAINT pk_stages PRIMARY KEY,
    depth_window integer NOT NULL,
    rate_per_s double precision NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON COLUMN batches.handle IS 'public id: batch_…';
COMMENT ON COLUMN batches.source IS 'where it came from: name of a file, stdin, celery, api';
COMMENT ON COLUMN batches.first_query_id IS 'its queries are in this range of ids, …';
COMMENT ON COLUMN batches.last_query_id IS '… maybe among others';
COMMENT ON COLUMN batches.priority IS 'higher goes first';
COMMENT ON COLUMN batches.plan IS 'what a dry run predicted';
COMMENT ON COLUMN budgets.batch_id IS 'the budget of one batch, or …';
COMMENT ON COLUMN budgets.tenant IS '… of one tenant on one UTC day';
COMMENT ON COLUMN budgets.reserved_usd IS 'intents without an outcome';
COMMENT ON COLUMN budgets.settled_usd IS 'calls with one';
COMMENT ON COLUMN budgets.largest_usd IS 'the largest reservation asked for';
COMMENT ON COLUMN calls.budgeted IS 'its reservation is in a budget';
COMMENT ON COLUMN queries.epoch IS 'fencing token: only a claim raises it';
COMMENT ON COLUMN queries.tier IS 'the tier that last had it, or has it';
COMMENT ON COLUMN queries.prefers IS 'the deployment to try first at its tier';
COMMENT ON COLUMN queries.attempts IS 'failed calls at this stage';
COMMENT ON COLUMN prompts.line IS '1-based line of the input';
COMMENT ON COLUMN prompts.body IS 'the chat-completions body; {} once purged';
COMMENT ON COLUMN prompts.options IS 'pin, expects, max_cost_usd, metadata of the line';
COMMENT ON COLUMN answers.accepted IS 'false: the best that was to be had';
COMMENT ON COLUMN answers.response IS 'the chat.completion object; {} once purged';
COMMENT ON COLUMN calls.query_id IS 'null where one call serves several queries (the LLM router)';
COMMENT ON COLUMN calls.outcome IS 'ok, or the kind of a failure; null while nobody knows';
COMMENT ON COLUMN calls.response IS 'kept only for an answer that was rejected';
COMMENT ON COLUMN decisions.kind IS 'route, judge, fallback, release, rescue, hold, cancel, …';
COMMENT ON COLUMN decisions.router IS 'who decided: gate, classifier, llm, pin, judge, ladder, feeder, user';
COMMENT ON COLUMN stages.depth_window IS 'how many queries may be in the broker';
COMMENT ON COLUMN stages.rate_per_s IS 'claims per second, smoothed';
"""

PARTITIONS = """
-- Monthly partitions of calls and decisions, from this month to `ahead` months on; called by the feeder.
-- Security definer: the application's role owns no table.
CREATE FUNCTION pointsman_add_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    parent text;
    month timestamptz;
    child text;
    added integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['calls', 'decisions'] LOOP
        FOR step IN 0..ahead LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                     + make_interval(months => step);
            child := parent || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
            IF to_regclass('public.' || child) IS NULL THEN
                EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                               child, parent, month, month + interval '1 month');
                added := added + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN added;
END $$;
SET LOCAL TIME ZONE 'UTC';
SELECT pointsman_add_partitions(2);
-- What falls outside of every month (a feeder that was away for long) is still written.
CREATE TABLE calls_other PARTITION OF calls DEFAULT;
CREATE TABLE decisions_other PARTITION OF decisions DEFAULT;
"""

ROLES = """
DO $$ BEGIN
    CREATE ROLE pointsman_app NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
    CREATE ROLE pointsman_auditor NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
GRANT USAGE ON SCHEMA public TO pointsman_app, pointsman_auditor;
GRANT SELECT, INSERT, UPDATE, DELETE ON batches, budgets, queries, prompts, answers, workers, stages TO pointsman_app;
GRANT SELECT, INSERT, UPDATE ON calls TO pointsman_app;
GRANT SELECT, INSERT ON decisions TO pointsman_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO pointsman_app;
REVOKE ALL ON FUNCTION pointsman_add_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pointsman_add_partitions(integer) TO pointsman_app;
"""

VIEWS = """
CREATE VIEW routing_log AS
SELECT d.at, b.handle AS batch_id, d.query_id, p.custom_id, d.kind, d.router, d.tier, d.score, d.confidence,
       d.reasons, d.from_stage, d.to_stage, d.to_state, d.propensity, d.call_id, d.detail, b.tenant, d.id AS decision_id
FROM decisions AS d
JOIN batches AS b ON b.id = d.batch_id
LEFT JOIN prompts AS p ON p.query_id = d.query_id;
COMMENT ON VIEW routing_log IS 'Every decision: what was decided of which query, by whom, how sure, and why.';

CREATE VIEW query_trace AS
SELECT d.query_id, b.handle AS batch_id, d.at, 'decision' AS event, d.kind AS what, d.tier, d.router AS who,
       NULL::text AS outcome, d.confidence, NULL::numeric AS cost_usd, NULL::double precision AS latency_ms,
       array_to_string(d.reasons, '; ') AS why
FROM decisions AS d JOIN batches AS b ON b.id = d.batch_id
UNION ALL
SELECT c.query_id, b.handle, c.created_at, 'call', c.purpose, c.tier, c.provider || '/' || c.model,
       c.outcome, exp(c.mean_logprob), coalesce(c.cost_usd, c.reserved_usd), c.latency_ms,
       CASE WHEN c.outcome IS NULL THEN 'under way, or lost' ELSE c.finish_reason END
FROM calls AS c JOIN batches AS b ON b.id = c.batch_id
WHERE c.query_id IS NOT NULL;
COMMENT ON VIEW query_trace IS 'The story of each query: its decisions and its calls, by time.';

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
COMMENT ON VIEW batch_summary IS
    'Each batch: counts by outcome, calls and their cost. Open calls count at their reservation.';

CREATE VIEW tier_daily AS
SELECT date_trunc('day', c.created_at AT TIME ZONE 'UTC')::date AS day, c.tier, c.model, c.purpose,
       count(*) AS calls, count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
       sum(c.prompt_tokens) AS prompt_tokens, sum(c.completion_tokens) AS completion_tokens,
       sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p95_ms
FROM calls AS c
GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW tier_daily IS 'Calls, tokens, cost and latency per UTC day, tier and model.';

CREATE VIEW escalations AS
SELECT d.at, b.handle AS batch_id, d.query_id, p.custom_id, q.tier AS tier_now, d.tier AS escalated_to,
       j.tier AS escalated_from, j.confidence AS confidence_below, j.reasons AS verdict, d.reasons
FROM decisions AS d
JOIN batches AS b ON b.id = d.batch_id
JOIN queries AS q ON q.id = d.query_id
LEFT JOIN prompts AS p ON p.query_id = d.query_id
LEFT JOIN LATERAL (
    SELECT v.tier, v.confidence, v.reasons FROM decisions AS v
    WHERE v.query_id = d.query_id AND v.kind = 'judge' AND v.id < d.id
    ORDER BY v.id DESC LIMIT 1
) AS j ON true
WHERE d.kind = 'fallback' AND d.move = 'advance';
COMMENT ON VIEW escalations IS 'Each step up the ladder, with the verdict that caused it.';

CREATE VIEW provider_health AS
SELECT c.provider, c.deployment, date_trunc('hour', c.created_at) AS hour, count(*) AS calls,
       count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
       count(*) FILTER (WHERE c.outcome = 'rate_limited') AS rate_limited,
       count(*) FILTER (WHERE c.outcome IN ('overloaded', 'server_error')) AS server_errors,
       count(*) FILTER (WHERE c.outcome IN ('unknown', 'never_sent', 'broken_body')) AS transport_errors,
       count(*) FILTER (WHERE c.outcome IS NULL) AS under_way,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p95_ms
FROM calls AS c
GROUP BY 1, 2, 3;
COMMENT ON VIEW provider_health IS 'Per provider, deployment and hour: how its calls went.';

GRANT SELECT ON routing_log, query_trace, batch_summary, tier_daily, escalations, provider_health
    TO pointsman_app, pointsman_auditor;
"""


def upgrade() -> None:
    for part in (TABLES, PARTITIONS, ROLES, VIEWS):
        op.get_bind().exec_driver_sql(part.replace("%", "%%"))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        """
        DROP VIEW routing_log, query_trace, batch_summary, tier_daily, escalations, provider_health;
        DROP TABLE stages, workers, decisions, calls, answers, prompts, queries, budgets, batches;
        DROP FUNCTION pointsman_add_partitions(integer);
        DROP SEQUENCE query_blocks, call_blocks;
        """
    )
