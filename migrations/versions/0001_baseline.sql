-- The schema, one section per table: columns, indexes, comments, grants. Functions, partitions and views follow.
--
-- `queries` is the hot table and stays narrow: the text of a query is in `prompts`, written once. `calls` and
-- `decisions` are partitioned by month, so that retention drops partitions. There are no foreign keys between them:
-- each row is written in the statement or the transaction that writes its parent, and a check per row costs more than
-- the row (docs/decisions/0002-no-foreign-keys.md). Bodies are json, not jsonb: what the user sent is kept to the byte.

-- Roles -------------------------------------------------------------------------------------------------------------

-- Where a superuser migrates, `bootstrap.sql` has made them, and the owner of everything below is `pointsman_owner`.
DO $$
DECLARE
    name pg_catalog.text;
BEGIN
    FOREACH name IN ARRAY ARRAY['pointsman_app', 'pointsman_auditor'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
                EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;
GRANT USAGE ON SCHEMA public TO pointsman_app, pointsman_auditor;

-- Grants are by column. `pointsman_app` may add to the log and change the state of work; of what the log, the costs and
-- the ids rest on it can change nothing and delete nothing. Ids and times of rows of the log are the database's own.

-- Blocks of ids: `nextval` gives the number of a block of 1000 (ID_BLOCK in db/ledger_types.py), so that a client knows
-- the ids of the rows that it is about to write, and a repeated write is recognized.
CREATE SEQUENCE query_blocks;
CREATE SEQUENCE call_blocks;

-- batches -----------------------------------------------------------------------------------------------------------

CREATE TABLE batches (
    id bigserial CONSTRAINT pk_batches PRIMARY KEY,
    public_id text NOT NULL CONSTRAINT uq_batches_public_id UNIQUE,
    tenant text NOT NULL DEFAULT 'default',
    key_id text,
    idempotency_key text,
    source text NOT NULL,
    endpoint text NOT NULL DEFAULT '/v1/chat/completions',
    metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
    total integer NOT NULL,
    content_sha256 bytea,
    prompt_bytes bigint NOT NULL DEFAULT 0,
    answer_bytes bigint NOT NULL DEFAULT 0,
    first_query_id bigint NOT NULL,
    last_query_id bigint NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    fleet text NOT NULL,
    fleet_digest text NOT NULL,
    price_list text NOT NULL,
    simulated boolean NOT NULL,
    plan jsonb,
    traceparent text,
    budget_policy text NOT NULL DEFAULT 'hold',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    deadline timestamptz,
    cancelled_at timestamptz,
    paused_at timestamptz,
    pause_code text,
    ended_at timestamptz,
    sealed_at timestamptz,
    summed_at timestamptz,
    measured_at timestamptz,
    purged_at timestamptz,
    CONSTRAINT uq_batches_tenant_idempotency_key UNIQUE (tenant, idempotency_key),
    CONSTRAINT ck_batches_total_positive CHECK (total > 0),
    -- Clocks of two servers may differ.
    CONSTRAINT ck_batches_ended_at_known CHECK (
        ended_at BETWEEN created_at - interval '1 hour' AND now() + interval '1 hour'),
    CONSTRAINT ck_batches_budget_policy_known CHECK (budget_policy IN ('hold', 'fail', 'degrade'))
);
CREATE INDEX ix_batches_open ON batches (id) WHERE ended_at IS NULL;
CREATE INDEX ix_batches_deadline ON batches (deadline) WHERE ended_at IS NULL AND deadline IS NOT NULL;
CREATE INDEX ix_batches_unsealed ON batches (id)
    WHERE ended_at IS NOT NULL AND (sealed_at IS NULL OR sealed_at < ended_at);
CREATE INDEX ix_batches_unsummed ON batches (id)
    WHERE ended_at IS NOT NULL AND (summed_at IS NULL OR summed_at <= ended_at) AND source <> '/v1/chat/completions';
CREATE INDEX ix_batches_unmeasured ON batches (tenant) INCLUDE (prompt_bytes, answer_bytes) WHERE measured_at IS NULL;
CREATE INDEX ix_batches_tenant_created_at ON batches (tenant, created_at);
CREATE INDEX ix_batches_no_chat ON batches (tenant, created_at) WHERE source <> '/v1/chat/completions';
COMMENT ON COLUMN batches.public_id IS 'batch_…: the id that users and the HTTP API see';
COMMENT ON COLUMN batches.key_id IS 'the public part of the API key that submitted the batch; null without a key';
COMMENT ON COLUMN batches.source IS 'file name, stdin, celery or api';
COMMENT ON COLUMN batches.first_query_id IS 'start of the id range of its queries; the range may hold ids of other batches too';
COMMENT ON COLUMN batches.content_sha256 IS 'SHA-256 of its lines; an idempotency key belongs to one content';
COMMENT ON COLUMN batches.prompt_bytes IS 'size of its prompts as submitted, plus the overhead of their rows; 0 once purged';
COMMENT ON COLUMN batches.answer_bytes IS 'size of its stored answers; an estimate until measured_at; 0 once purged';
COMMENT ON COLUMN batches.measured_at IS
    'when its bytes were added to those of its tenant; null while it is open, or after a resume';
COMMENT ON COLUMN batches.price_list IS 'the digest of its price list: later fleet files do not change its figures';
COMMENT ON COLUMN batches.priority IS 'higher goes first';
COMMENT ON COLUMN batches.deadline IS 'when the user needs the answers; until then cheaper lanes may be used; null for standard';
COMMENT ON COLUMN batches.plan IS 'the forecast of a dry run';
COMMENT ON COLUMN batches.traceparent IS 'W3C trace context that the client sent';
COMMENT ON COLUMN batches.paused_at IS 'while set, no query of the batch is claimed and its window does not close; a resume clears it';
COMMENT ON COLUMN batches.pause_code IS 'quota_reached: its tenant stores too much; null: the user paused it';
COMMENT ON COLUMN batches.sealed_at IS 'when all its decisions were sealed; a time before ended_at means that it was resumed since';
COMMENT ON COLUMN batches.summed_at IS
    'when workload_sums was filled; a time up to ended_at means that it was resumed since, or that audits may have followed';
COMMENT ON COLUMN batches.purged_at IS 'when its prompts and answers were removed';
GRANT SELECT, UPDATE (ended_at, cancelled_at, paused_at, pause_code, expires_at, deadline, summed_at, answer_bytes, measured_at),
    INSERT (id, public_id, tenant, key_id, idempotency_key, source, endpoint, metadata, total, content_sha256, prompt_bytes,
            answer_bytes, first_query_id, last_query_id, priority, fleet, fleet_digest, price_list, simulated, plan,
            traceparent, budget_policy, expires_at, deadline)
    ON batches TO pointsman_app;

-- price lists -------------------------------------------------------------------------------------------------------

CREATE TABLE price_lists (
    digest text CONSTRAINT pk_price_lists PRIMARY KEY,
    content jsonb NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE price_lists IS 'The tiers, prices, baseline and aliases of a fleet at the time batches were submitted.';
COMMENT ON COLUMN price_lists.digest IS 'SHA-256 of the content';
GRANT SELECT, INSERT (digest, content) ON price_lists TO pointsman_app;
GRANT SELECT ON price_lists TO pointsman_auditor;

-- budgets -----------------------------------------------------------------------------------------------------------

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
COMMENT ON TABLE budgets IS 'The budget of a batch, or of a tenant on a UTC day.';
COMMENT ON COLUMN budgets.reserved_usd IS 'reservations of calls without an outcome';
COMMENT ON COLUMN budgets.settled_usd IS 'cost of calls with an outcome';
COMMENT ON COLUMN budgets.largest_usd IS 'the largest reservation that a claim asked for';
GRANT SELECT, INSERT, UPDATE (cap_usd, reserved_usd, settled_usd, largest_usd) ON budgets TO pointsman_app;

-- queries -----------------------------------------------------------------------------------------------------------

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
    needs_usd numeric(18, 9),
    held_for text,
    yields boolean NOT NULL DEFAULT false,
    was_lost boolean NOT NULL DEFAULT false,
    pilot boolean NOT NULL DEFAULT false,
    flex_tier text,
    CONSTRAINT ck_queries_state_known CHECK (state IN (
        'batched', 'cancelled', 'dead', 'done', 'expired', 'failed', 'held', 'queued', 'ready', 'running')),
    CONSTRAINT ck_queries_finished_is_terminal CHECK (
        (finished_at IS NOT NULL) = (state IN ('cancelled', 'dead', 'done', 'expired', 'failed'))),
    CONSTRAINT ck_queries_lease_is_running CHECK ((lease_until IS NOT NULL) = (state = 'running'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
CREATE INDEX ix_queries_ready ON queries (stage, batch_id, due_at, id) WHERE state = 'ready';
CREATE INDEX ix_queries_queued ON queries (stage) WHERE state = 'queued';
CREATE INDEX ix_queries_running ON queries (lease_until) WHERE state = 'running';
CREATE INDEX ix_queries_held ON queries (batch_id, needs_usd, id) WHERE state = 'held';
CREATE INDEX ix_queries_held_for ON queries (held_for, needs_usd, id) WHERE state = 'held' AND held_for IS NOT NULL;
CREATE INDEX ix_queries_released ON queries (moved_at) WHERE needs_usd IS NOT NULL AND state IN ('ready', 'queued');
CREATE INDEX ix_queries_pilot ON queries (batch_id) WHERE pilot;
-- Not by states: such an index would also serve `state = 'ready'`, and behind a long history, where the planner takes
-- all of these for empty, a search for the few queries of one stage would read it from end to end.
CREATE INDEX ix_queries_open ON queries (batch_id) WHERE finished_at IS NULL;
CREATE INDEX ix_queries_unanswered ON queries (batch_id, state)
    WHERE state IN ('cancelled', 'dead', 'expired', 'failed');
-- No plan depends on these columns, and to sample them is half of an ANALYZE.
ALTER TABLE queries ALTER epoch SET STATISTICS 0, ALTER moved_at SET STATISTICS 0, ALTER worker_id SET STATISTICS 0,
    ALTER prefers SET STATISTICS 0, ALTER crashes SET STATISTICS 0, ALTER attempts SET STATISTICS 0,
    ALTER yields SET STATISTICS 0, ALTER was_lost SET STATISTICS 0, ALTER flex_tier SET STATISTICS 0;
COMMENT ON COLUMN queries.epoch IS 'fencing token: a claim, a resume, and a pause while it is queued raise it';
COMMENT ON COLUMN queries.tier IS 'the current or last tier';
COMMENT ON COLUMN queries.prefers IS 'the deployment to try first at its tier';
COMMENT ON COLUMN queries.attempts IS 'failed calls at this stage';
COMMENT ON COLUMN queries.needs_usd IS 'held: the reservation that did not fit the budgets or the remaining credit of the account';
COMMENT ON COLUMN queries.held_for IS 'held: the deployment with a refused account; null: the budget has no room';
COMMENT ON COLUMN queries.pilot IS 'part of the sample that every tier answers';
COMMENT ON COLUMN queries.flex_tier IS 'the tier that calls it in the lane flex, as long as there is time';
COMMENT ON COLUMN queries.yields IS 'held: a claim degrades or fails it once the remaining budget is less than needs_usd';
COMMENT ON COLUMN queries.was_lost IS 'its message was lost once: the route stage claims it before deciding it';
GRANT SELECT, INSERT,
    UPDATE (stage, state, epoch, tier, due_at, moved_at, lease_until, worker_id, prefers, crashes, attempts, escalations,
            finished_at, needs_usd, held_for, yields, was_lost, pilot, flex_tier)
    ON queries TO pointsman_app;

-- prompts -----------------------------------------------------------------------------------------------------------

CREATE TABLE prompts (
    query_id bigint CONSTRAINT pk_prompts PRIMARY KEY,
    batch_id bigint NOT NULL,
    custom_id text NOT NULL,
    line integer NOT NULL,
    body json NOT NULL,
    options json,
    bytes integer NOT NULL GENERATED ALWAYS AS (
        octet_length(CAST(body AS text)) + coalesce(octet_length(CAST(options AS text)), 0)) STORED,
    CONSTRAINT uq_prompts_batch_id_custom_id UNIQUE (batch_id, custom_id)
);
COMMENT ON COLUMN prompts.line IS '1-based line of the input';
COMMENT ON COLUMN prompts.body IS 'the chat-completions body; {} once purged';
COMMENT ON COLUMN prompts.options IS 'pin, expects, max_cost_usd, dedup and metadata of the line';
COMMENT ON COLUMN prompts.bytes IS 'size of body and options, so that a reader with a limit need not unpack the rows beyond it';
GRANT SELECT, INSERT ON prompts TO pointsman_app;

-- followers and request keys ----------------------------------------------------------------------------------------

CREATE TABLE followers (
    query_id bigint CONSTRAINT pk_followers PRIMARY KEY,
    batch_id bigint NOT NULL,
    leader_id bigint NOT NULL,
    failures smallint NOT NULL DEFAULT 0
);
CREATE INDEX ix_followers_leader ON followers (batch_id, leader_id);
COMMENT ON TABLE followers IS 'Queries that are not sent: each waits for the answer of another query with the same request.';
COMMENT ON COLUMN followers.leader_id IS 'the query that is sent; if an earlier answer is reused, a query of another batch of the tenant';
COMMENT ON COLUMN followers.failures IS 'earlier leaders that ended without an accepted answer';
GRANT SELECT, INSERT, DELETE, UPDATE (leader_id, failures) ON followers TO pointsman_app;

CREATE TABLE request_keys (
    query_id bigint CONSTRAINT pk_request_keys PRIMARY KEY,
    batch_id bigint NOT NULL,
    tenant text NOT NULL,
    key bytea NOT NULL
);
CREATE INDEX ix_request_keys_key ON request_keys (tenant, key);
CREATE INDEX ix_request_keys_batch_id ON request_keys (batch_id);
COMMENT ON TABLE request_keys IS 'Queries with answers that later batches may reuse. A purge deletes those of its batch.';
COMMENT ON COLUMN request_keys.key IS 'hash of the normalized request and its workload';
GRANT SELECT, INSERT ON request_keys TO pointsman_app;

-- answers -----------------------------------------------------------------------------------------------------------

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
-- As of queries.
ALTER TABLE answers ALTER model SET STATISTICS 0, ALTER confidence SET STATISTICS 0, ALTER response SET STATISTICS 0;
COMMENT ON COLUMN answers.accepted IS 'false: rejected, but delivered as the best answer';
COMMENT ON COLUMN answers.response IS 'the chat.completion object, or the list of embeddings; {} once purged';
GRANT SELECT, INSERT (query_id, call_id, tier, model, confidence, accepted, response) ON answers TO pointsman_app;

-- calls -------------------------------------------------------------------------------------------------------------

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
    budget_ids bigint[] NOT NULL DEFAULT '{}'::bigint[],
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
    cause text,
    param text,
    answered_by text,
    cache_write_tokens integer,
    cache_write_1h_tokens integer,
    audio_tokens integer,
    service_tier text,
    reported_usd numeric(18, 9),
    computed_usd numeric(18, 9),
    lane text,
    provider_batch_id bigint,
    left_out text[],
    CONSTRAINT pk_calls PRIMARY KEY (id, created_at),
    CONSTRAINT ck_calls_purpose_known CHECK (purpose IN ('answer', 'audit', 'embed', 'extend', 'grade', 'hedge', 'repair', 'route', 'sample', 'verify')),
    CONSTRAINT ck_calls_result_whole CHECK (
        (outcome IS NULL) = (finished_at IS NULL) AND (outcome IS NULL) = (cost_usd IS NULL))
) PARTITION BY RANGE (created_at);
CREATE INDEX ix_calls_query_id ON calls (query_id);
CREATE INDEX ix_calls_batch_id ON calls (batch_id);
-- Calls of provider batches are open for hours: a look for calls that a worker lost does not meet them.
CREATE INDEX ix_calls_open ON calls (created_at) WHERE outcome IS NULL AND provider_batch_id IS NULL;
CREATE INDEX ix_calls_provider_batch_id ON calls (provider_batch_id, id) WHERE provider_batch_id IS NOT NULL;
CREATE INDEX ix_calls_repairs ON calls (tier, id) WHERE purpose = 'repair';
-- A call ends long after its row was written: the end needs an index of its own, with one entry per call.
CREATE INDEX ix_calls_finished_at ON calls (finished_at) WHERE finished_at IS NOT NULL;
COMMENT ON COLUMN calls.query_id IS 'null if one call serves several queries (the LLM router)';
COMMENT ON COLUMN calls.budget_ids IS 'the budgets that hold its reservation; a budget created later does not';
COMMENT ON COLUMN calls.outcome IS 'ok, or the kind of a failure; null while it is unknown';
COMMENT ON COLUMN calls.cause IS 'the provider''s code for a failure, or the network''s reason';
COMMENT ON COLUMN calls.param IS 'the field of the request that was refused';
COMMENT ON COLUMN calls.answered_by IS 'the model that the answer names, if it is not the requested one';
COMMENT ON COLUMN calls.cache_write_tokens IS 'prompt tokens written to a cache of minutes';
COMMENT ON COLUMN calls.cache_write_1h_tokens IS 'prompt tokens written to a cache of an hour';
COMMENT ON COLUMN calls.audio_tokens IS 'audio tokens of prompt and completion together';
COMMENT ON COLUMN calls.service_tier IS 'the service tier that the answer names, if it is not the standard one';
COMMENT ON COLUMN calls.reported_usd IS 'the provider''s own figure of the cost';
COMMENT ON COLUMN calls.computed_usd IS 'the cost by the price table, if the provider gives a figure too';
COMMENT ON COLUMN calls.lane IS 'the lane that bought the call: flex or batch; null for standard';
COMMENT ON COLUMN calls.provider_batch_id IS 'the provider batch that has this call as a line; the call''s id is the line''s custom id there';
COMMENT ON COLUMN calls.left_out IS 'fields that a line of a provider batch omits because its deployment refuses them; null: none';
COMMENT ON COLUMN calls.response IS 'kept only for rejected answers and for a grader''s verdicts';
GRANT SELECT,
    INSERT (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, worker_id, reserved_usd,
            price_version, budget_ids, lane, provider_batch_id, left_out),
    UPDATE (budget_ids, outcome, status, latency_ms, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,
            cost_usd, request_id, finish_reason, mean_logprob, response, finished_at, cause, param, answered_by,
            cache_write_tokens, cache_write_1h_tokens, audio_tokens, service_tier, reported_usd, computed_usd)
    ON calls TO pointsman_app;
-- A call gets its result once; only what was charged without a known outcome may still be replaced by a late result.
-- A policy for the rows, not a trigger: the condition is one comparison in the statement's own plan.
ALTER TABLE calls ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_calls ON calls FOR SELECT TO pointsman_app USING (true);
CREATE POLICY add_calls ON calls FOR INSERT TO pointsman_app WITH CHECK (true);
CREATE POLICY settle_calls ON calls FOR UPDATE TO pointsman_app
    USING (outcome IS NULL OR outcome = 'unknown') WITH CHECK (true);

-- provider batches --------------------------------------------------------------------------------------------------

CREATE TABLE provider_batches (
    id bigserial CONSTRAINT pk_provider_batches PRIMARY KEY,
    batch_id bigint NOT NULL,
    tier text NOT NULL,
    deployment text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    marker text NOT NULL CONSTRAINT uq_provider_batches_marker UNIQUE,
    state text NOT NULL DEFAULT 'forming',
    epoch integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    due_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    max_queries integer NOT NULL,
    max_tokens bigint,
    queries integer NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    file_id text,
    remote_id text,
    outcome text,
    cause text,
    tries smallint NOT NULL DEFAULT 0,
    turns smallint NOT NULL DEFAULT 0,
    answered integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    creating_at timestamptz,
    arrives_by timestamptz,
    submitted_at timestamptz,
    ended_at timestamptz,
    cancelling_at timestamptz,
    done_at timestamptz,
    give_up_at timestamptz,
    given_up_at timestamptz,
    verdict text,
    refused text[] NOT NULL DEFAULT '{}'::text[],
    CONSTRAINT ck_provider_batches_state_known CHECK (state IN (
        'cancelling', 'collecting', 'creating', 'done', 'formed', 'forming', 'submitted', 'uploaded')),
    CONSTRAINT ck_provider_batches_submitted_has_id CHECK (
        remote_id IS NOT NULL OR state NOT IN ('submitted', 'cancelling', 'collecting')),
    CONSTRAINT ck_provider_batches_done_whole CHECK ((state = 'done') = (done_at IS NOT NULL))
);
CREATE UNIQUE INDEX uq_provider_batches_forming ON provider_batches (batch_id, tier) WHERE state = 'forming';
CREATE INDEX ix_provider_batches_open ON provider_batches (due_at) WHERE state <> 'done';
CREATE INDEX ix_provider_batches_batch_id ON provider_batches (batch_id);
CREATE INDEX ix_provider_batches_provider ON provider_batches (provider, id);
CREATE INDEX ix_provider_batches_refused ON provider_batches (deployment) WHERE refused <> '{}'::text[];
COMMENT ON TABLE provider_batches IS 'Batches at providers: each holds queries of one batch, one tier and one deployment.';
COMMENT ON COLUMN provider_batches.marker IS 'its unguessable name at the provider, which finds it after a lost reply';
COMMENT ON COLUMN provider_batches.epoch IS 'fencing token; each worker that takes a step raises it';
COMMENT ON COLUMN provider_batches.lease_until IS 'deadline of that step; also the lease of its queries';
COMMENT ON COLUMN provider_batches.due_at IS 'when its next step is due';
COMMENT ON COLUMN provider_batches.reason IS 'why this lane buys its queries';
COMMENT ON COLUMN provider_batches.tokens IS 'estimated tokens of its prompts; providers limit enqueued tokens';
COMMENT ON COLUMN provider_batches.remote_id IS 'its id at the provider';
COMMENT ON COLUMN provider_batches.outcome IS 'how it ended at the provider; or empty, or unsent';
COMMENT ON COLUMN provider_batches.cause IS 'the last failure of a step';
COMMENT ON COLUMN provider_batches.tries IS 'failed attempts of its current step';
COMMENT ON COLUMN provider_batches.turns IS 'claims of its current step; more than one means that workers were lost';
COMMENT ON COLUMN provider_batches.answered IS 'lines with an answer';
COMMENT ON COLUMN provider_batches.creating_at IS 'when its create was last about to be sent';
COMMENT ON COLUMN provider_batches.arrives_by IS 'when that create has arrived or never will';
COMMENT ON COLUMN provider_batches.cancelling_at IS 'when a cancel was first about to be sent';
COMMENT ON COLUMN provider_batches.give_up_at IS 'how long the newest plan waits for it';
COMMENT ON COLUMN provider_batches.given_up_at IS 'when its queries were released before it was over';
COMMENT ON COLUMN provider_batches.verdict IS 'why the newest plan waits for it or not';
COMMENT ON COLUMN provider_batches.refused IS 'fields that its deployment refuses, learned from its results';
GRANT SELECT, INSERT (batch_id, tier, deployment, provider, model, marker, reason, max_queries, max_tokens),
    UPDATE (state, epoch, lease_until, due_at, queries, tokens, file_id, remote_id, outcome, cause, tries, turns, answered,
            creating_at, arrives_by, submitted_at, cancelling_at, ended_at, done_at, give_up_at, given_up_at, verdict, refused)
    ON provider_batches TO pointsman_app;
GRANT SELECT ON provider_batches TO pointsman_auditor;

-- account faults ----------------------------------------------------------------------------------------------------

CREATE TABLE account_faults (
    deployment text CONSTRAINT pk_account_faults PRIMARY KEY,
    provider text NOT NULL,
    reason text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT now(),
    tried_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE account_faults IS 'Deployments with an account that the provider refuses, while queries wait for them.';
COMMENT ON COLUMN account_faults.tried_at IS 'when a query was last released as a probe';
GRANT SELECT, INSERT, UPDATE, DELETE ON account_faults TO pointsman_app;
GRANT SELECT ON account_faults TO pointsman_auditor;

-- pilots ------------------------------------------------------------------------------------------------------------

CREATE TABLE pilots (
    batch_id bigint CONSTRAINT pk_pilots PRIMARY KEY,
    floor double precision NOT NULL,
    confidence double precision NOT NULL,
    seed bigint NOT NULL,
    max_queries integer,
    stops boolean NOT NULL DEFAULT false,
    audit_share double precision NOT NULL,
    grader text,
    state text NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    certificate jsonb,
    policy jsonb,
    weights bytea,
    extensions smallint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    breached_at timestamptz,
    stopped_at timestamptz,
    CONSTRAINT ck_pilots_state_known CHECK (state IN ('sampling', 'deciding', 'decided')),
    CONSTRAINT ck_pilots_lease_is_deciding CHECK ((lease_until IS NOT NULL) = (state = 'deciding')),
    CONSTRAINT ck_pilots_decided_whole CHECK ((state = 'decided') = (decided_at IS NOT NULL))
);
CREATE INDEX ix_pilots_undecided ON pilots (batch_id) WHERE state <> 'decided';
COMMENT ON TABLE pilots IS 'The quality floor of a batch: a sample that every tier answers, and the decision from it.';
COMMENT ON COLUMN pilots.floor IS 'the quality, relative to the top tier, that answers must keep';
COMMENT ON COLUMN pilots.confidence IS 'confidence of the certificate';
COMMENT ON COLUMN pilots.seed IS 'random seed that picks the sampled queries';
COMMENT ON COLUMN pilots.max_queries IS 'the user''s limit on the sample';
COMMENT ON COLUMN pilots.stops IS 'true for pointsman try: the rest is not answered';
COMMENT ON COLUMN pilots.audit_share IS 'share of audited answers among those accepted below the top tier';
COMMENT ON COLUMN pilots.grader IS 'the grader, if the user names one';
COMMENT ON COLUMN pilots.epoch IS 'fencing token: each worker that takes the decision raises it';
COMMENT ON COLUMN pilots.lease_until IS 'deciding: deadline of the deciding worker';
COMMENT ON COLUMN pilots.policy IS 'kind default, top or ladder, with the parameters of its weights';
COMMENT ON COLUMN pilots.weights IS 'the arrays of a ladder policy, npz';
COMMENT ON COLUMN pilots.extensions IS 'how often the sample was extended';
COMMENT ON COLUMN pilots.breached_at IS 'when audits found the floor broken';
COMMENT ON COLUMN pilots.stopped_at IS 'when the rest of a batch that ends with its pilot was cancelled';
GRANT SELECT, INSERT,
    UPDATE (state, lease_until, certificate, policy, weights, extensions, decided_at, breached_at, epoch,
            stopped_at)
    ON pilots TO pointsman_app;
GRANT SELECT ON pilots TO pointsman_auditor;
-- What was decided stands; after that only the breach of the floor and the end of the rest are recorded.
CREATE FUNCTION pointsman_keep_certificate() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the pilot of batch % is decided', OLD.batch_id USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER keep_certificate BEFORE UPDATE OF state, lease_until, certificate, policy, weights, extensions,
    decided_at, epoch ON pilots FOR EACH ROW WHEN (OLD.state = 'decided') EXECUTE FUNCTION pointsman_keep_certificate();
CREATE TRIGGER keep_breach BEFORE UPDATE OF breached_at ON pilots FOR EACH ROW WHEN (OLD.breached_at IS NOT NULL)
    EXECUTE FUNCTION pointsman_keep_certificate();

CREATE TABLE grades (
    call_id bigint NOT NULL,
    place smallint NOT NULL,
    batch_id bigint NOT NULL,
    query_id bigint NOT NULL,
    pair text NOT NULL,
    reference_first boolean NOT NULL,
    CONSTRAINT pk_grades PRIMARY KEY (call_id, place)
);
CREATE INDEX ix_grades_batch_id ON grades (batch_id);
COMMENT ON TABLE grades IS 'The pairs that each call of an LLM judge asks about; the verdicts are in the call''s response.';
COMMENT ON COLUMN grades.place IS 'position of the pair in its call, from 0';
COMMENT ON COLUMN grades.pair IS 'SHA-256 of question, answer and reference';
COMMENT ON COLUMN grades.reference_first IS 'whether the reference is shown first';
GRANT SELECT, INSERT ON grades TO pointsman_app;
GRANT SELECT ON grades TO pointsman_auditor;

CREATE TABLE audits (
    query_id bigint CONSTRAINT pk_audits PRIMARY KEY,
    batch_id bigint NOT NULL,
    call_id bigint NOT NULL,
    tier text NOT NULL,
    grade double precision NOT NULL,
    reference_grade double precision NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_audits_batch_id ON audits (batch_id);
COMMENT ON TABLE audits IS 'Accepted answers that were compared with the top tier''s after delivery.';
COMMENT ON COLUMN audits.tier IS 'the tier with the accepted answer';
GRANT SELECT, INSERT (query_id, batch_id, call_id, tier, grade, reference_grade) ON audits TO pointsman_app;
GRANT SELECT ON audits TO pointsman_auditor;

-- decisions ---------------------------------------------------------------------------------------------------------

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
    codes text[] NOT NULL DEFAULT '{}'::text[],
    reasons text[] NOT NULL,
    detail jsonb,
    CONSTRAINT pk_decisions PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX ix_decisions_query_id ON decisions (query_id);
CREATE INDEX ix_decisions_batch_id ON decisions (batch_id);
CREATE INDEX ix_decisions_budget ON decisions (batch_id) WHERE codes && ARRAY['lowered', 'over_budget', 'budget_reserved'];
-- decisions only grows at its end: block ranges are enough, and cost next to nothing to keep.
CREATE INDEX ix_decisions_at ON decisions USING brin (at) WITH (pages_per_range = 16, autosummarize = on);
COMMENT ON COLUMN decisions.kind IS 'route, judge, embed, fallback, release, rescue, hold, cancel, …';
COMMENT ON COLUMN decisions.router IS 'who decided: gate, classifier, llm, pin, endpoint, judge, ladder, feeder, user';
COMMENT ON COLUMN decisions.codes IS 'the code of each reason, in the order of reasons, for programs';
COMMENT ON COLUMN decisions.reasons IS 'the text of each reason, for people';
GRANT SELECT,
    INSERT (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, score, confidence,
            propensity, call_id, codes, reasons, detail)
    ON decisions TO pointsman_app;

-- seals -------------------------------------------------------------------------------------------------------------

CREATE TABLE seals (
    batch_id bigint NOT NULL,
    place integer NOT NULL,
    ids bigint[] NOT NULL,
    row_hashes bytea NOT NULL,
    hash bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_seals PRIMARY KEY (batch_id, place)
);
ALTER TABLE seals ALTER COLUMN ids SET STORAGE EXTERNAL, ALTER COLUMN row_hashes SET STORAGE EXTERNAL;
COMMENT ON COLUMN seals.place IS '1, 2, 3 … within the batch';
COMMENT ON COLUMN seals.ids IS 'the decisions that it covers, ascending';
COMMENT ON COLUMN seals.row_hashes IS 'SHA-256 of each decision, cut to 16 bytes and concatenated';
COMMENT ON COLUMN seals.hash IS 'SHA-256 over the previous seal''s hash, the ids and the row hashes';
GRANT SELECT ON seals TO pointsman_app, pointsman_auditor;

-- kept_calls --------------------------------------------------------------------------------------------------------

CREATE TABLE kept_calls (
    batch_id bigint NOT NULL,
    day date NOT NULL,
    tier text NOT NULL,
    model text NOT NULL,
    provider text NOT NULL,
    purpose text NOT NULL,
    lane text NOT NULL,
    calls bigint NOT NULL,
    ok bigint NOT NULL,
    prompt_tokens bigint,
    completion_tokens bigint,
    cost_usd numeric(18, 9) NOT NULL,
    latency_p50_ms double precision,
    latency_p95_ms double precision,
    CONSTRAINT pk_kept_calls PRIMARY KEY (batch_id, day, tier, model, provider, purpose, lane)
);
COMMENT ON TABLE kept_calls IS 'The sums of calls whose rows were purged.';
COMMENT ON COLUMN kept_calls.lane IS 'the lane of the calls: standard, flex or batch';
GRANT SELECT ON kept_calls TO pointsman_app, pointsman_auditor;

-- spend_daily -------------------------------------------------------------------------------------------------------

CREATE TABLE spend_daily (
    day date NOT NULL,
    tenant text NOT NULL,
    simulated boolean NOT NULL,
    key_id text NOT NULL,
    workload text NOT NULL,
    tier text NOT NULL,
    calls bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    cost_usd numeric(18, 9) NOT NULL,
    summed_at timestamptz NOT NULL,
    CONSTRAINT pk_spend_daily PRIMARY KEY (day, tenant, simulated, key_id, workload, tier)
);
COMMENT ON TABLE spend_daily IS
    'Cost of calls with a result, by the UTC day on which they began; the feeder sums a day again when one of its calls ends.';
COMMENT ON COLUMN spend_daily.key_id IS 'the API key that submitted the batch; empty without a key';
COMMENT ON COLUMN spend_daily.workload IS
    'the workload from routing; empty without one, and for all but the 100 costliest of a tenant''s day';
COMMENT ON COLUMN spend_daily.summed_at IS 'calls that ended up to this time are counted';
GRANT SELECT, INSERT, UPDATE, DELETE ON spend_daily TO pointsman_app;
GRANT SELECT ON spend_daily TO pointsman_auditor;

-- workload_sums -----------------------------------------------------------------------------------------------------

CREATE TABLE workload_sums (
    batch_id bigint NOT NULL,
    workload text NOT NULL,
    router text NOT NULL,
    version text NOT NULL,
    tier text NOT NULL,
    answers bigint NOT NULL,
    cost_usd numeric(18, 9) NOT NULL,
    baseline_usd numeric(18, 9) NOT NULL,
    CONSTRAINT pk_workload_sums PRIMARY KEY (batch_id, workload, router, version, tier)
);
CREATE INDEX ix_workload_sums_workload ON workload_sums (workload, batch_id);
COMMENT ON TABLE workload_sums IS
    'Answers and costs of a batch by workload, first router and tier of the answer, summed at its end.';
COMMENT ON COLUMN workload_sums.workload IS
    'the workload from routing; empty without one, and for all but the 100 costliest of the batch';
COMMENT ON COLUMN workload_sums.version IS 'start of the digest of the trained router; empty without one';
COMMENT ON COLUMN workload_sums.tier IS 'empty without an answer';
COMMENT ON COLUMN workload_sums.cost_usd IS 'cost of all calls of the queries, and their share of calls for several queries: graders and LLM routers';
COMMENT ON COLUMN workload_sums.baseline_usd IS 'what these answers would have cost at the top tier';
GRANT SELECT, INSERT, DELETE ON workload_sums TO pointsman_app;
GRANT SELECT ON workload_sums TO pointsman_auditor;

-- labels ------------------------------------------------------------------------------------------------------------

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
CREATE INDEX ix_labels_query_id ON labels (query_id, tier, id);
CREATE INDEX ix_labels_batch_id ON labels (batch_id);
COMMENT ON TABLE labels IS 'Grades of answers; the newest label of a query and tier counts.';
COMMENT ON COLUMN labels.tier IS 'the tier of the labeled answer, which may be a rejected one';
COMMENT ON COLUMN labels.grade IS '0 wrong to 1 right';
COMMENT ON COLUMN labels.source IS 'file, command, web, web-uncertain';
GRANT SELECT, INSERT (query_id, batch_id, tier, grade, source, said_by) ON labels TO pointsman_app;
GRANT SELECT ON labels TO pointsman_auditor;

-- shadows -----------------------------------------------------------------------------------------------------------

CREATE TABLE shadows (
    query_id bigint NOT NULL,
    router text NOT NULL,
    batch_id bigint NOT NULL,
    tier text NOT NULL,
    stage text NOT NULL,
    confidence double precision,
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_shadows PRIMARY KEY (query_id, router)
);
CREATE INDEX ix_shadows_batch_id ON shadows (batch_id);
COMMENT ON TABLE shadows IS 'What a candidate router would have decided; it has no effect.';
COMMENT ON COLUMN shadows.stage IS 'who decided: gate, classifier, prior';
GRANT SELECT, INSERT, UPDATE (tier, stage, confidence, at) ON shadows TO pointsman_app;
GRANT SELECT ON shadows TO pointsman_auditor;

-- routers, router_files, router_promotions --------------------------------------------------------------------------

CREATE TABLE routers (
    name text CONSTRAINT pk_routers PRIMARY KEY,
    digest text NOT NULL,
    data_sha256 text NOT NULL,
    manifest jsonb NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    added_by text NOT NULL
);
COMMENT ON COLUMN routers.digest IS 'SHA-256 of its manifest.json, which holds the SHA-256 of every file';
COMMENT ON COLUMN routers.data_sha256 IS 'SHA-256 of the training file';
COMMENT ON COLUMN routers.manifest IS 'its tiers, features and figures';
GRANT SELECT, INSERT, UPDATE (digest, data_sha256, manifest, added_at, added_by) ON routers TO pointsman_app;
GRANT SELECT ON routers TO pointsman_auditor;

CREATE TABLE router_files (
    digest text NOT NULL,
    file text NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT pk_router_files PRIMARY KEY (digest, file)
);
COMMENT ON TABLE router_files IS 'The files of each version that was ever registered; they never change.';
GRANT SELECT, INSERT ON router_files TO pointsman_app;

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
COMMENT ON TABLE router_promotions IS 'Promotions of routers; the newest one that is not undone serves.';
COMMENT ON COLUMN router_promotions.digest IS 'null for the shipped router';
GRANT SELECT, INSERT, UPDATE (undone_at, undone_by) ON router_promotions TO pointsman_app;
GRANT SELECT ON router_promotions TO pointsman_auditor;

-- workers, stages ---------------------------------------------------------------------------------------------------

CREATE TABLE workers (
    id bigserial CONSTRAINT pk_workers PRIMARY KEY,
    name text NOT NULL,
    role text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    stopped_at timestamptz,
    died_at timestamptz,
    in_flight integer NOT NULL DEFAULT 0,
    slots integer NOT NULL DEFAULT 0,
    router text
);
COMMENT ON COLUMN workers.died_at IS 'when its supervisor saw that its process had ended without stopping in order';
COMMENT ON COLUMN workers.router IS 'name and version of the trained router that the worker uses';
GRANT SELECT, INSERT, UPDATE ON workers TO pointsman_app;

CREATE TABLE stages (
    stage text CONSTRAINT pk_stages PRIMARY KEY,
    depth_window integer NOT NULL,
    rate_per_s double precision NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_enabled = off);  -- its few rows are updated in place, and each vacuum would have all moves planned anew
COMMENT ON COLUMN stages.depth_window IS 'how many queries may be in the broker';
COMMENT ON COLUMN stages.rate_per_s IS 'claims per second, smoothed';
GRANT SELECT, INSERT, UPDATE ON stages TO pointsman_app;

-- tenants, api_keys -------------------------------------------------------------------------------------------------

CREATE TABLE tenants (
    name text CONSTRAINT pk_tenants PRIMARY KEY,
    requests_per_min integer,
    day_usd numeric(18, 9),
    stored_bytes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_tenants_limits_positive CHECK (requests_per_min > 0 AND day_usd >= 0)
);
COMMENT ON COLUMN tenants.requests_per_min IS 'null for no limit';
COMMENT ON COLUMN tenants.day_usd IS 'the most it may spend on a UTC day; null for the limit of the fleet';
COMMENT ON COLUMN tenants.stored_bytes IS 'bytes of its batches with a measured_at; the others are added when they end';
GRANT SELECT, INSERT, UPDATE (requests_per_min, day_usd, stored_bytes) ON tenants TO pointsman_app;

CREATE TABLE api_keys (
    id text CONSTRAINT pk_api_keys PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL,
    role text NOT NULL,
    identity text,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CONSTRAINT ck_api_keys_role_known CHECK (role IN ('viewer', 'operator', 'admin'))
);
CREATE UNIQUE INDEX uq_api_keys_identity ON api_keys (identity) WHERE revoked_at IS NULL;
COMMENT ON COLUMN api_keys.identity IS 'a user that a trusted proxy names and who needs no key; null for a key';
COMMENT ON COLUMN api_keys.id IS 'the public part of the key';
COMMENT ON COLUMN api_keys.hash IS 'SHA-256 of the key, which has 256 random bits';
GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_keys TO pointsman_app;

-- files, file_pieces ------------------------------------------------------------------------------------------------

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
COMMENT ON COLUMN files.content IS 'stored: in file_pieces; output, errors: read from the ledger';
COMMENT ON COLUMN files.batch IS 'the public id of the batch with these results';
COMMENT ON COLUMN files.ready IS 'false during the upload';
GRANT SELECT, INSERT, UPDATE, DELETE ON files TO pointsman_app;

CREATE TABLE file_pieces (
    file_id text NOT NULL,
    place integer NOT NULL,
    data bytea NOT NULL,
    CONSTRAINT pk_file_pieces PRIMARY KEY (file_id, place)
);
ALTER TABLE file_pieces ALTER COLUMN data SET STORAGE EXTERNAL;
GRANT SELECT, INSERT, UPDATE, DELETE ON file_pieces TO pointsman_app;

-- api_batches -------------------------------------------------------------------------------------------------------

CREATE TABLE api_batches (
    public_id text CONSTRAINT pk_api_batches PRIMARY KEY,
    tenant text NOT NULL,
    key_id text,
    input_file_id text,
    endpoint text NOT NULL,
    completion_window text NOT NULL,
    window_s integer,
    output_expires_after_s integer,
    metadata jsonb,
    cap_usd numeric(18, 9),
    budget_policy text,
    priority smallint NOT NULL DEFAULT 0,
    dedup boolean NOT NULL DEFAULT false,
    pilot jsonb,
    row_mapping jsonb,
    idempotency_key text,
    fingerprint text,
    traceparent text,
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
    CONSTRAINT ck_api_batches_failed_says_why CHECK ((status = 'failed') = (errors IS NOT NULL)),
    CONSTRAINT ck_api_batches_cap_not_negative CHECK (cap_usd >= 0),
    CONSTRAINT ck_api_batches_budget_policy_known CHECK (budget_policy IN ('hold', 'fail', 'degrade'))
);
CREATE INDEX ix_api_batches_tenant_created_at ON api_batches (tenant, created_at, public_id);
CREATE INDEX ix_api_batches_unfinished ON api_batches (created_at)
    WHERE status = 'validating' OR status = 'accepted' AND finalized_at IS NULL;
CREATE INDEX ix_api_batches_failed ON api_batches (tenant) WHERE status IN ('failed', 'cancelled');
CREATE INDEX ix_api_batches_input_file_id ON api_batches (input_file_id) WHERE status = 'validating';
COMMENT ON COLUMN api_batches.public_id IS 'its public id; the same as in batches once it is accepted';
COMMENT ON COLUMN api_batches.key_id IS 'the public part of the API key that created it; null without a key';
COMMENT ON COLUMN api_batches.input_file_id IS 'null for a batch that did not come over HTTP';
COMMENT ON COLUMN api_batches.cap_usd IS 'the requested budget; null for the fleet''s default';
COMMENT ON COLUMN api_batches.pilot IS 'the requested quality floor';
COMMENT ON COLUMN api_batches.row_mapping IS 'what the columns of the file mean; null for JSON lines';
COMMENT ON COLUMN api_batches.fingerprint IS 'SHA-256 of the request, which identifies a retry';
COMMENT ON COLUMN api_batches.lease_until IS 'a process validates or finalizes it until then';
COMMENT ON COLUMN api_batches.counts IS 'counts of its queries, once it is finalized';
GRANT SELECT, INSERT,
    UPDATE (status, errors, lease_until, tries, output_file_id, error_file_id, counts, usage, accepted_at, cancelling_at,
            failed_at, finalized_at)
    ON api_batches TO pointsman_app;

-- webhooks, webhook_messages ----------------------------------------------------------------------------------------

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
COMMENT ON COLUMN webhooks.secret IS 'stored unhashed, because it signs messages';
COMMENT ON COLUMN webhooks.gone_at IS 'when the receiver answered 410; nothing more is sent';
GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks TO pointsman_app;

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
CREATE INDEX ix_webhook_messages_tenant_due_at ON webhook_messages (tenant, due_at, id, webhook_id)
    WHERE due_at IS NOT NULL;
COMMENT ON COLUMN webhook_messages.due_at IS 'null once it is delivered or given up';
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_messages TO pointsman_app;

GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO pointsman_app;

-- Partitions --------------------------------------------------------------------------------------------------------

-- A function that is SECURITY DEFINER names every type and relation with its schema, and has `pg_temp` last: a schema
-- that is not named is searched first for types, and a caller's own type would run its check as the owner.

-- Monthly partitions of calls and decisions, from this month to `ahead` months on; called by the feeder.
-- Security definer: the application's role owns no table. A month that already has rows in `…_other` is left there.
CREATE FUNCTION pointsman_add_partitions(ahead pg_catalog.int4) RETURNS pg_catalog.int4
-- A new partition locks its table: behind a backup all other statements would wait as long as this one does.
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '1s'
AS $$
DECLARE
    parent pg_catalog.text;
    moment pg_catalog.text;
    month pg_catalog.timestamptz;
    child pg_catalog.text;
    unsampled pg_catalog.text;
    begun pg_catalog.bool;
    added pg_catalog.int4 := 0;
BEGIN
    IF ahead IS NULL OR ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'ahead is 0 to 24 months, not %', ahead USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH parent IN ARRAY ARRAY['calls', 'decisions'] LOOP
        moment := CASE parent WHEN 'calls' THEN 'created_at' ELSE 'at' END;
        FOR step IN 0..ahead LOOP
            month := pg_catalog.date_trunc('month', pg_catalog.now()) + pg_catalog.make_interval(months => step);
            child := parent || '_' || pg_catalog.to_char(month, 'YYYY_MM');
            CONTINUE WHEN pg_catalog.to_regclass('public.' || child) IS NOT NULL;
            EXECUTE pg_catalog.format('SELECT EXISTS (SELECT FROM public.%I WHERE %I >= %L AND %I < %L)',
                                      parent || '_other', moment, month,
                                      moment, month + pg_catalog.make_interval(months => 1)) INTO begun;
            CONTINUE WHEN begun;
            BEGIN
                EXECUTE pg_catalog.format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                                          child, parent, month, month + pg_catalog.make_interval(months => 1));
                -- No plan depends on them, and to sample them is more than half of an ANALYZE.
                FOREACH unsampled IN ARRAY CASE parent
                    WHEN 'calls' THEN ARRAY[
                        'epoch', 'worker_id', 'reserved_usd', 'price_version', 'budget_ids', 'status', 'latency_ms',
                        'prompt_tokens', 'cached_tokens', 'completion_tokens', 'reasoning_tokens', 'cost_usd', 'request_id',
                        'mean_logprob', 'cause', 'param', 'cache_write_tokens', 'cache_write_1h_tokens', 'audio_tokens',
                        'service_tier', 'reported_usd', 'computed_usd', 'left_out']
                    ELSE ARRAY['epoch', 'move', 'from_stage', 'to_stage', 'to_state', 'score', 'confidence', 'propensity',
                               'codes', 'reasons', 'detail'] END LOOP
                    EXECUTE pg_catalog.format('ALTER TABLE public.%I ALTER %I SET STATISTICS 0', child, unsampled);
                END LOOP;
                added := added + 1;
            EXCEPTION WHEN check_violation THEN
                NULL;  -- a row of that month was written since
            END;
        END LOOP;
    END LOOP;
    RETURN added;
END $$;
REVOKE ALL ON FUNCTION pointsman_add_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pointsman_add_partitions(integer) TO pointsman_app;

-- Rows outside of every month (a feeder was away for long) are still written.
CREATE TABLE calls_other PARTITION OF calls DEFAULT;
CREATE TABLE decisions_other PARTITION OF decisions DEFAULT;
SELECT pointsman_add_partitions(2);

-- Seals -------------------------------------------------------------------------------------------------------------

-- Each value as Postgres sends it, with its type and length: no setting of a session changes that except the encoding
-- of the client, which is UTF-8 for all of ours.
CREATE FUNCTION pointsman_decision_hash(d decisions) RETURNS pg_catalog.bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.substring(pg_catalog.sha256(pg_catalog.record_send(ROW(
        d.id, d.at, d.batch_id, d.query_id, d.epoch, d.kind, d.move, d.from_stage, d.to_stage, d.to_state, d.tier,
        d.router, d.score, d.confidence, d.propensity, d.call_id, d.codes, d.reasons, d.detail))), 1, 16)
$$;
GRANT EXECUTE ON FUNCTION pointsman_decision_hash(decisions) TO pointsman_app, pointsman_auditor;

-- Adds links to the chain of an ended batch, over its decisions that no seal covers yet, one link per `span` ids and 50
-- at most; marks the batch as sealed once there are no more. Returns how many decisions, and null where there is nothing
-- to seal: the batch is open, or sealed to its end. No other statement writes seals or `sealed_at`. What came after the
-- batch was sealed, without a resume before it, is never covered: `verify` names it.
CREATE FUNCTION pointsman_seal(batch pg_catalog.int8, span pg_catalog.int4) RETURNS pg_catalog.int4
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_encoding = 'UTF8'
AS $$
DECLARE
    batch_name pg_catalog.text;
    whole_at pg_catalog.timestamptz;
    link_at pg_catalog.timestamptz;
    known pg_catalog.bytea;
    link pg_catalog.int4;
    covered pg_catalog.int8;
    ends pg_catalog.int8;
    link_ids pg_catalog.int8[];
    link_hashes pg_catalog.bytea;
    newest pg_catalog.timestamptz;
    sealed pg_catalog.int4 := 0;
BEGIN
    IF span IS NULL OR span NOT BETWEEN 1 AND 20000 THEN
        RAISE EXCEPTION 'span is 1 to 20000 ids, not %', span USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A resume, and another that seals, wait for this transaction.
    SELECT b.public_id, b.sealed_at INTO batch_name, whole_at FROM public.batches AS b
    WHERE b.id = batch AND b.ended_at IS NOT NULL AND (b.sealed_at IS NULL OR b.sealed_at < b.ended_at)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT s.place, s.hash, s.ids[pg_catalog.cardinality(s.ids)], s.sealed_at INTO link, known, covered, link_at
    FROM public.seals AS s WHERE s.batch_id = batch ORDER BY s.place DESC LIMIT 1;
    IF NOT FOUND THEN  -- the SELECT has set them to null
        link := 0;
        known := pg_catalog.sha256(pg_catalog.convert_to(batch_name, 'UTF8'));
        covered := 0;
    END IF;
    -- For the least id over all decisions, the planner may walk the key from the oldest decision on until it meets one
    -- of the batch: OFFSET keeps it to those of the batch.
    SELECT pg_catalog.min(d.id) - 1, pg_catalog.max(d.id) INTO covered, ends
    FROM (SELECT id, kind FROM public.decisions WHERE batch_id = batch OFFSET 0) AS d
    WHERE d.id > covered
      AND (whole_at IS NULL OR link_at > whole_at OR d.id >= (
          SELECT pg_catalog.min(r.id) FROM (SELECT id, kind FROM public.decisions WHERE batch_id = batch OFFSET 0) AS r
          WHERE r.id > covered AND r.kind = 'resume'));
    FOR step IN 1..50 LOOP
        EXIT WHEN ends IS NULL OR covered >= ends;
        SELECT pg_catalog.array_agg(d.id ORDER BY d.id),
               pg_catalog.string_agg(public.pointsman_decision_hash(d), ''::pg_catalog.bytea ORDER BY d.id),
               pg_catalog.max(d.at)
        INTO link_ids, link_hashes, newest
        FROM public.decisions AS d
        WHERE d.id > covered AND d.id <= covered + span AND d.batch_id = batch;
        covered := covered + span;
        CONTINUE WHEN link_ids IS NULL;
        link := link + 1;
        known := pg_catalog.sha256(
            known || pg_catalog.convert_to(pg_catalog.array_to_string(link_ids, ','), 'UTF8') || link_hashes);
        INSERT INTO public.seals (batch_id, place, ids, row_hashes, hash, sealed_at)
        -- No earlier than what it covers, and after the batch was last sealed whole, even where the clock was set back.
        VALUES (batch, link, link_ids, link_hashes, known,
                GREATEST(pg_catalog.clock_timestamp(), newest, whole_at + pg_catalog.make_interval(secs => 0.000001)))
        RETURNING sealed_at INTO link_at;
        sealed := sealed + pg_catalog.cardinality(link_ids);
    END LOOP;
    IF ends IS NULL OR covered >= ends THEN
        UPDATE public.batches AS b SET sealed_at = GREATEST(pg_catalog.clock_timestamp(), b.ended_at, link_at)
        WHERE b.id = batch;
    END IF;
    RETURN sealed;
END $$;
REVOKE ALL ON FUNCTION pointsman_seal(pg_catalog.int8, pg_catalog.int4) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pointsman_seal(pg_catalog.int8, pg_catalog.int4) TO pointsman_app;

-- Orphans -----------------------------------------------------------------------------------------------------------

-- Deletes up to ten thousand fresh queries of a batch that has no row, unless its writer lives: that holds the advisory
-- lock (of the class BATCHES_UNDER_WAY, db/batch_writer.py) until its batch exists. The lock comes first, so that the next statement, whose
-- snapshot is younger, sees that batch. Returns how many.
CREATE FUNCTION pointsman_delete_orphans(batch pg_catalog.int8) RETURNS pg_catalog.int4
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    removed pg_catalog.int4;
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock(1349478766, (batch % 2147483647)::pg_catalog.int4) THEN
        RETURN 0;
    END IF;
    DELETE FROM public.queries WHERE id = ANY (ARRAY(
        SELECT q.id FROM public.queries AS q
        WHERE q.stage = 'route' AND q.state = 'ready' AND q.batch_id = batch
          AND NOT EXISTS (SELECT FROM public.batches AS b WHERE b.id = batch)
        LIMIT 10000));
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;
REVOKE ALL ON FUNCTION pointsman_delete_orphans(pg_catalog.int8) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pointsman_delete_orphans(pg_catalog.int8) TO pointsman_app;

-- Views. To their readers, as to users of the HTTP API, `batch_id` is the public id. ---------------------------------

-- LEFT JOIN: a row that is missing elsewhere hides no decision and no call.

CREATE VIEW routing_log AS
SELECT d.at, b.public_id AS batch_id, d.query_id, p.custom_id, d.kind, d.router, d.tier, d.score, d.confidence,
       d.codes, d.reasons, d.from_stage, d.to_stage, d.to_state, d.propensity, d.call_id, d.detail, b.tenant,
       d.id AS decision_id
FROM decisions AS d
LEFT JOIN batches AS b ON b.id = d.batch_id
LEFT JOIN prompts AS p ON p.query_id = d.query_id;
COMMENT ON VIEW routing_log IS 'Every decision about a query: what, by which router, with which confidence, and why.';

CREATE VIEW query_trace AS
SELECT d.query_id, b.public_id AS batch_id, d.at, 'decision' AS event, d.kind AS what, d.tier, d.router AS who,
       NULL::text AS outcome, d.confidence, NULL::numeric AS cost_usd, NULL::double precision AS latency_ms,
       array_to_string(d.reasons, '; ') AS why
FROM decisions AS d LEFT JOIN batches AS b ON b.id = d.batch_id
UNION ALL
SELECT c.query_id, b.public_id, c.created_at, 'call', c.purpose, c.tier, c.provider || '/' || c.model,
       c.outcome, exp(c.mean_logprob), coalesce(c.cost_usd, c.reserved_usd), c.latency_ms,
       CASE WHEN c.outcome IS NULL THEN 'under way, or lost' ELSE c.finish_reason END
FROM calls AS c LEFT JOIN batches AS b ON b.id = c.batch_id
WHERE c.query_id IS NOT NULL;
COMMENT ON VIEW query_trace IS 'The timeline of each query: its decisions and its calls.';

CREATE VIEW batch_summary AS
SELECT b.public_id AS batch_id, b.tenant, b.source, b.created_at, b.ended_at, b.cancelled_at, b.simulated, b.total,
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
           count(*) FILTER (WHERE q.escalations > 0 AND NOT q.pilot) AS escalated
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
COMMENT ON VIEW batch_summary IS
    'Each batch with counts by outcome, calls and their cost. Open calls count at their reservation; escalated excludes the pilot.';

CREATE VIEW tier_daily AS
SELECT date_trunc('day', c.created_at AT TIME ZONE 'UTC')::date AS day, c.tier, c.model, c.purpose,
       coalesce(c.lane, 'standard') AS lane,
       count(*) AS calls, count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
       sum(c.prompt_tokens) AS prompt_tokens, sum(c.completion_tokens) AS completion_tokens,
       sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS latency_p95_ms
FROM calls AS c
GROUP BY 1, 2, 3, 4, 5
UNION ALL
SELECT k.day, k.tier, k.model, k.purpose, k.lane,
       CAST(sum(k.calls) AS bigint), CAST(sum(k.ok) AS bigint),
       CAST(sum(k.prompt_tokens) AS bigint), CAST(sum(k.completion_tokens) AS bigint), sum(k.cost_usd),
       -- Purged calls leave only the percentiles of each batch: their mean, weighted by calls.
       sum(k.latency_p50_ms * k.calls) / nullif(sum(k.calls), 0), max(k.latency_p95_ms)
FROM kept_calls AS k
GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW tier_daily IS 'Calls, tokens, cost and latency per UTC day, tier, model and lane.';

CREATE VIEW escalations AS
SELECT d.at, b.public_id AS batch_id, d.query_id, p.custom_id, q.tier AS tier_now, d.tier AS escalated_to,
       j.tier AS escalated_from, j.confidence AS confidence_below, j.reasons AS verdict, d.reasons
FROM decisions AS d
LEFT JOIN batches AS b ON b.id = d.batch_id
LEFT JOIN queries AS q ON q.id = d.query_id
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
COMMENT ON VIEW provider_health IS 'Per provider, deployment and hour: the outcomes of its calls.';

-- Times ------------------------------------------------------------------------------------------------------------

-- No time that the application writes is beyond all times: what is never over is kept forever, and clients cannot read
-- a time after the year 9999. Only what waits for the decision of a pilot is due at no time.
DO $$
DECLARE
    known record;
BEGIN
    FOR known IN
        SELECT c.table_name AS name,
               string_agg(format(CASE WHEN c.table_name = 'queries' AND c.column_name = 'due_at'
                                      THEN 'nullif(%I, ''infinity'')' ELSE '%I' END, c.column_name),
                          ', ' ORDER BY c.ordinal_position) AS times
        FROM information_schema.columns AS c
        WHERE c.table_schema = 'public' AND c.data_type = 'timestamp with time zone'
          AND has_column_privilege('pointsman_app', quote_ident(c.table_name), c.column_name, 'INSERT, UPDATE')
        GROUP BY c.table_name
    LOOP
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I CHECK (least(%s) >= %L AND greatest(%3$s) <= %5$L)',
                       known.name, 'ck_' || known.name || '_times_finite', known.times,
                       timestamptz '2000-01-01 00:00Z', timestamptz '9999-12-31 23:59:59.999999Z');
    END LOOP;
END $$;

-- Each process looks whether the schema is the one that it knows.
GRANT SELECT ON alembic_version TO pointsman_app, pointsman_auditor;
GRANT SELECT ON routing_log, query_trace, batch_summary, tier_daily, escalations, provider_health
    TO pointsman_app, pointsman_auditor;
