-- Moves claimed queries: the move, its decision, the answer, and the result of each call.
-- A move counts only at its stage, from its states, under its epoch; the result of a call counts always.
-- Missing fields of a move are null. `place` numbers those that may go into the broker, by stage.
WITH moves AS (
    SELECT * FROM json_to_recordset(CAST(:moves AS json)) AS m (
        query_id bigint, epoch integer, stage text, sources text[], to_stage text, to_state text,
        place integer, tier text, prefers text, wait_s double precision, attempts integer, escalated integer,
        final boolean, kind text, move text, router text, score double precision,
        confidence double precision, propensity double precision, call_id bigint, codes text[],
        reasons text[], detail jsonb, model text, accepted boolean, response json)
),
room AS MATERIALIZED (  -- otherwise counted again for each row that moves
    -- Half of the window: the rest is the feeder's, who takes from all batches in turn. Had it none, what is `ready`
    -- would wait for as long as the stage before runs ahead: ten queries behind a million, for ever.
    SELECT s.stage, greatest(s.depth_window / 2, 1) - (
        SELECT count(*) FROM queries AS q WHERE q.state = 'queued' AND q.stage = s.stage) AS places
    FROM stages AS s
    WHERE s.stage IN (SELECT to_stage FROM moves WHERE place IS NOT NULL)
),
moved AS (
    UPDATE queries AS q
    SET stage = m.to_stage,
        state = CASE WHEN m.place <= r.places THEN 'queued' ELSE m.to_state END,
        tier = coalesce(m.tier, q.tier),
        prefers = CASE WHEN m.to_stage = q.stage THEN q.prefers ELSE m.prefers END,
        due_at = CASE WHEN m.wait_s > 0 THEN now() + make_interval(secs => m.wait_s) ELSE q.due_at END,
        attempts = CASE WHEN m.to_stage = q.stage THEN q.attempts + coalesce(m.attempts, 0) ELSE 0 END,
        escalations = q.escalations + coalesce(m.escalated, 0),
        lease_until = NULL,
        needs_usd = CASE WHEN m.to_state = 'held' THEN CAST(m.detail ->> 'needs_usd' AS numeric) ELSE q.needs_usd END,
        yields = CASE WHEN m.to_state = 'held' THEN false ELSE q.yields END,
        held_for = CASE WHEN m.to_state = 'held' THEN m.detail ->> 'held_for' END,
        moved_at = now(),
        finished_at = CASE WHEN m.final THEN now() END
    FROM moves AS m
    LEFT JOIN room AS r ON r.stage = m.to_stage
    -- The ids as an array: a plan made while the table was small would walk all of it for a join.
    WHERE q.id = ANY(ARRAY(SELECT query_id FROM moves))
      AND q.id = m.query_id
      AND q.stage = m.stage
      AND q.epoch = m.epoch
      AND q.state = ANY(m.sources)
    RETURNING q.id, q.batch_id, q.epoch, q.stage, q.state, m.stage AS from_stage, m.tier, m.kind, m.move, m.router,
              m.score, m.confidence, m.propensity, m.call_id, m.codes, m.reasons, m.detail, m.model, m.accepted,
              m.response
),
faults AS (
    -- Where no call was made, its fault is known already: an hour ago is before any.
    INSERT INTO account_faults AS f (deployment, provider, reason, failed_at)
    SELECT DISTINCT ON (detail ->> 'held_for') detail ->> 'held_for', detail ->> 'provider', reasons[1],
           CASE WHEN CAST(detail ->> 'called' AS boolean) THEN now() ELSE now() - interval '1 hour' END
    FROM moved
    WHERE state = 'held' AND detail ->> 'held_for' IS NOT NULL
    ORDER BY detail ->> 'held_for', CAST(detail ->> 'called' AS boolean) DESC
    ON CONFLICT (deployment) DO UPDATE SET failed_at = excluded.failed_at, reason = excluded.reason
    WHERE excluded.failed_at > f.failed_at
),
answered AS (
    INSERT INTO answers (query_id, call_id, tier, model, confidence, accepted, response)
    SELECT id, call_id, tier, model, confidence, accepted, response
    FROM moved
    WHERE response IS NOT NULL
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router,
                           score, confidence, propensity, call_id, codes, reasons, detail)
    SELECT batch_id, id, epoch, kind, move, from_stage, stage, state, tier, router,
           score, confidence, propensity, call_id, codes, reasons, detail
    FROM moved
    ORDER BY id  -- else they are numbered by the stage that they go to: a sample of the newest would be of one tier
),
results AS (
    SELECT * FROM json_to_recordset(CAST(:results AS json)) AS r (
        call_id bigint, at timestamptz, outcome text, status smallint, latency_ms double precision,
        prompt_tokens integer, cached_tokens integer, completion_tokens integer, reasoning_tokens integer,
        cost_usd numeric, request_id text, finish_reason text, mean_logprob double precision, response json,
        cause text, param text, answered_by text, cache_write_tokens integer, cache_write_1h_tokens integer,
        audio_tokens integer, service_tier text, reported_usd numeric, computed_usd numeric)
),
before AS (
    SELECT c.id, c.budget_ids, c.outcome, c.cost_usd, c.reserved_usd
    FROM results AS r JOIN calls AS c ON c.id = r.call_id AND c.created_at = r.at
    -- When they began is bound: the partitions of other months are then not even opened.
    WHERE c.id = ANY(ARRAY(SELECT call_id FROM results))
      AND c.created_at BETWEEN CAST(:since AS timestamptz) AND CAST(:until AS timestamptz)
      AND c.budget_ids <> '{}'
    FOR UPDATE OF c
),
charged AS (
    UPDATE budgets AS g
    SET reserved_usd = g.reserved_usd - change.freed_usd, settled_usd = g.settled_usd + change.settled_usd
    FROM (
        SELECT g.id, sum(CASE WHEN c.outcome IS NULL THEN c.reserved_usd ELSE 0 END) AS freed_usd,
               sum(r.cost_usd - coalesce(c.cost_usd, 0)) AS settled_usd
        FROM before AS c
        JOIN results AS r ON r.call_id = c.id
        JOIN budgets AS g ON g.id = ANY(c.budget_ids)
        GROUP BY g.id
    ) AS change
    WHERE g.id = change.id
    RETURNING g.id
),
settled AS (
    UPDATE calls AS c
    SET outcome = r.outcome, status = r.status, latency_ms = r.latency_ms,
        prompt_tokens = r.prompt_tokens, cached_tokens = r.cached_tokens,
        completion_tokens = r.completion_tokens, reasoning_tokens = r.reasoning_tokens,
        cost_usd = r.cost_usd, request_id = r.request_id, finish_reason = r.finish_reason,
        mean_logprob = r.mean_logprob, response = r.response, finished_at = now(),
        cause = r.cause, param = r.param, answered_by = r.answered_by,
        cache_write_tokens = r.cache_write_tokens, cache_write_1h_tokens = r.cache_write_1h_tokens,
        audio_tokens = r.audio_tokens, service_tier = r.service_tier,
        reported_usd = r.reported_usd, computed_usd = r.computed_usd
    FROM results AS r
    WHERE c.id = ANY(ARRAY(SELECT call_id FROM results))
      AND c.created_at BETWEEN CAST(:since AS timestamptz) AND CAST(:until AS timestamptz)
      AND c.id = r.call_id AND c.created_at = r.at
      -- Budgets first: once a call is settled here, `before` would no longer see what it was.
      AND (SELECT count(*) FROM charged) >= 0
)
SELECT id, stage, state FROM moved
