-- The cost of a batch, the cost of its routers, and the cost of the same answers at each baseline, by its name.
--
-- A baseline is a tier, or a model, at its list price. Per answered query: the real cost of its calls there, failed
-- ones with them, if one is complete and no lane made it cheaper (so the top tier alone saves nothing), else the tokens of the call that gave the answer at the baseline's price,
-- those of its text times how much longer the baseline's text is and the tokens beside it, which are its reasoning
-- (`ratios` and `offsets`, by the tier of the answer: see length_ratios.py). A query without an
-- answer, yet or for good, counts with what its calls there cost, or if it never came there, with what it cost: it saves
-- nothing, and what other tiers cost before is lost (`unanswered_usd` is of all its calls). `unconfirmed_usd` is what of
-- the cost, and of a baseline, no provider confirmed: the worst case of calls without an outcome or of an unknown one, and
-- `usual_usd` the same at the mean cost of complete calls of their model and purpose, if it has any. A follower adds nothing: the
-- saving of not asking it is not a merit of the routing. Nor do embeddings, which no model of a baseline answers.
--
-- `estimated_usd` is the part of a baseline by such ratios, of the answers alone.
--
-- Where `noted` is true, the first routing of each query is read as well, for two more figures:
-- * For each baseline that is named after a tier, over the `measured` queries (those for which the router logged an
--   expectation at every rung): how many good answers the router expected there (`well`), and how many of the tiers that
--   answered (`well_here`). Both are the router's own expectation, not the judge's verdict.
-- * `routed`: by workload, by what routed the query first, and by the tier of the answer, without embeddings: answers, the
--   cost of all calls, and the baseline 'top'. A system prompt that only one query has is not a workload; of more than
--   100 workloads the costliest keep their names, and the others are counted under ''. The sampled queries share the cost
--   of the graders' calls; all queries share that of other calls that serve several of them.
WITH price AS (
    SELECT *
    FROM unnest(CAST(:names AS text[]), CAST(:tiers AS text[]), CAST(:models AS text[]),
                CAST(:input_usd_per_mtok AS numeric[]), CAST(:cached_usd_per_mtok AS numeric[]),
                CAST(:output_usd_per_mtok AS numeric[]), CAST(:multipliers AS numeric[]))
         AS p (name, tier, model, input_usd, cached_usd, output_usd, multiplier)
),
longer AS (
    SELECT *
    FROM unnest(CAST(:ratio_names AS text[]), CAST(:ratio_tiers AS text[]), CAST(:ratio_workloads AS text[]),
                CAST(:ratio_shapes AS text[]), CAST(:ratios AS double precision[]),
                CAST(:offsets AS double precision[]))
         AS l (name, tier, workload, shape, ratio, beside)
),
usual AS MATERIALIZED (
    SELECT model, purpose, avg(cost_usd) AS usd
    FROM calls
    WHERE batch_id = :batch_id AND outcome = 'ok'
    GROUP BY model, purpose
),
c AS MATERIALIZED (
    SELECT id, query_id, purpose, tier, model, outcome, lane, coalesce(cost_usd, reserved_usd) AS cost_usd, latency_ms,
           CASE WHEN outcome IS DISTINCT FROM 'ok' AND coalesce(cost_usd, reserved_usd) = reserved_usd
                THEN least(reserved_usd, usual.usd) ELSE 0 END AS usual_usd,
           CASE WHEN outcome IS DISTINCT FROM 'ok' AND coalesce(cost_usd, reserved_usd) = reserved_usd THEN reserved_usd ELSE 0 END
               AS unconfirmed_usd,
           coalesce(prompt_tokens, 0) AS prompt_tokens, coalesce(cached_tokens, 0) AS cached_tokens,
           coalesce(completion_tokens, 0) AS completion_tokens, coalesce(reasoning_tokens, 0) AS reasoning_tokens
    FROM calls
    LEFT JOIN usual USING (model, purpose)
    WHERE batch_id = :batch_id
),
noted AS (  -- only where `noted`, or a ratio is of a workload
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload,
           coalesce(detail ->> 'shape', '') AS shape, router, coalesce(detail ->> 'version', '') AS version,
           detail ->> 'p_ok' AS p_ok
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
      AND (CAST(:noted AS boolean) OR EXISTS (SELECT 1 FROM longer WHERE workload IS NOT NULL))
    ORDER BY query_id, id
),
-- What is known of each query is put together by sorting, not by joins: before the tables are analyzed, and where it
-- cannot know that most rows match, the planner takes joins for small that take the square of the rows.
part AS (
    SELECT c.query_id, c.id, c.purpose, c.tier, c.model, c.outcome, c.lane, c.cost_usd, c.unconfirmed_usd, c.usual_usd,
           c.prompt_tokens, c.cached_tokens, c.completion_tokens, c.reasoning_tokens, CAST(NULL AS bigint) AS answer, CAST(NULL AS text) AS state,
           CAST(NULL AS text) AS workload, CAST(NULL AS text) AS shape, CAST(NULL AS text) AS named, CAST(NULL AS text) AS router,
           CAST(NULL AS text) AS version, CAST(NULL AS text) AS p_ok
    FROM c
    WHERE c.query_id IS NOT NULL AND c.purpose <> 'embed'
    UNION ALL
    SELECT a.query_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, a.call_id, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL
    FROM answers AS a
    WHERE a.query_id >= (SELECT first_query_id FROM batches WHERE id = :batch_id)
      AND a.query_id <= (SELECT last_query_id FROM batches WHERE id = :batch_id)
    UNION ALL
    SELECT q.id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, q.state, NULL, NULL, NULL, NULL,
           NULL, NULL
    FROM queries AS q
    WHERE q.batch_id = :batch_id AND q.id >= (SELECT first_query_id FROM batches WHERE id = :batch_id)
      AND q.id <= (SELECT last_query_id FROM batches WHERE id = :batch_id)
    UNION ALL
    SELECT query_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, workload, shape,
           CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY workload) = 1 THEN '' ELSE workload END,
           router, version, p_ok
    FROM noted
),
known AS (
    SELECT *, max(tier) FILTER (WHERE id = taken) OVER q AS taken_tier, max(purpose) FILTER (WHERE id = taken) OVER q AS taken_by
    FROM (
        SELECT query_id, id, purpose, tier, model, outcome, lane, cost_usd, unconfirmed_usd, usual_usd, prompt_tokens, cached_tokens,
               completion_tokens, reasoning_tokens, CASE WHEN max(state) OVER q = 'done' THEN max(answer) OVER q END AS taken,
               max(workload) OVER q AS workload, max(shape) OVER q AS shape, max(named) OVER q AS named, max(router) OVER q AS router,
               max(version) OVER q AS version, max(p_ok) OVER q AS p_ok
        FROM part
        WINDOW q AS (PARTITION BY query_id)
    ) AS p
    WINDOW q AS (PARTITION BY query_id)
),
asked AS (  -- each query with a call, at each baseline; `tier` is that of its answer, null without one of its own
    SELECT p.name, k.query_id, max(k.taken_tier) AS tier,
           max(k.completion_tokens) FILTER (WHERE k.id = k.taken) AS completion_tokens,
           max(k.reasoning_tokens) FILTER (WHERE k.id = k.taken) AS reasoning_tokens,
           bool_or((k.tier = p.tier OR k.model = p.model) IS TRUE) FILTER (WHERE k.id = k.taken) AS is_own,
           -- A repair's prompt holds the answer that it repairs: at a baseline the query would have been asked by its own.
           coalesce(min(k.prompt_tokens) FILTER (WHERE k.taken_by = 'repair' AND k.tier = k.taken_tier AND k.outcome = 'ok'
                                                       AND k.purpose IN ('answer', 'hedge')),
                    max(k.prompt_tokens) FILTER (WHERE k.id = k.taken)) AS prompt_tokens,
           coalesce(min(k.cached_tokens) FILTER (WHERE k.taken_by = 'repair' AND k.tier = k.taken_tier AND k.outcome = 'ok'
                                                       AND k.purpose IN ('answer', 'hedge')),
                    max(k.cached_tokens) FILTER (WHERE k.id = k.taken)) AS cached_tokens,
           CASE WHEN bool_or(k.outcome = 'ok' AND k.lane IS NULL) FILTER (WHERE there.is_so)
                THEN sum(k.cost_usd) FILTER (WHERE there.is_so AND k.lane IS NULL) END AS called_usd,
           sum(k.cost_usd) FILTER (WHERE there.is_so) AS there_usd,
           sum(k.unconfirmed_usd) FILTER (WHERE there.is_so AND k.lane IS NULL) AS unconfirmed_called_usd,
           sum(k.unconfirmed_usd) FILTER (WHERE there.is_so) AS unconfirmed_there_usd, sum(k.unconfirmed_usd) AS unconfirmed_usd,
           sum(k.usual_usd) FILTER (WHERE there.is_so AND k.lane IS NULL) AS usual_called_usd,
           sum(k.usual_usd) FILTER (WHERE there.is_so) AS usual_there_usd, sum(k.usual_usd) AS usual_usd,
           sum(k.cost_usd) AS spent_usd, max(k.workload) AS workload, max(k.shape) AS shape, max(k.named) AS named,
           max(k.router) AS router, max(k.version) AS version, CAST(max(k.p_ok) AS jsonb) AS p_ok
    FROM known AS k
    CROSS JOIN price AS p
    CROSS JOIN LATERAL (
        SELECT (k.tier = p.tier OR k.model = p.model) IS TRUE
               AND k.purpose IN ('answer', 'hedge', 'extend', 'repair', 'audit') AS is_so
    ) AS there
    WHERE k.id IS NOT NULL
    GROUP BY p.name, k.query_id
),
priced AS (
    SELECT a.name, a.tier, a.called_usd IS NOT NULL OR a.is_own AS is_own, alike.ratio IS NOT NULL AS by_workload,
           CASE WHEN a.tier IS NOT NULL THEN coalesce(a.called_usd, said.usd + p.multiplier / 1000000 * (
               (a.prompt_tokens - a.cached_tokens) * p.input_usd + a.cached_tokens * p.cached_usd))
                ELSE coalesce(a.there_usd, a.spent_usd) END AS usd,
           CASE WHEN a.called_usd IS NULL AND NOT a.is_own THEN said.usd END AS estimated_usd,
           CASE WHEN a.tier IS NULL THEN coalesce(a.unconfirmed_there_usd, a.unconfirmed_usd)
                WHEN a.called_usd IS NOT NULL THEN a.unconfirmed_called_usd ELSE 0 END AS unconfirmed_usd,
           CASE WHEN a.tier IS NULL THEN coalesce(a.usual_there_usd, a.usual_usd)
                WHEN a.called_usd IS NOT NULL THEN a.usual_called_usd ELSE 0 END AS usual_usd,
           a.spent_usd, a.named AS workload, a.router, a.version,
           a.p_ok ?& CAST(:ladder AS text[]) AND a.p_ok ? a.tier AS measured,
           CAST(a.p_ok ->> a.name AS double precision) AS p_there, CAST(a.p_ok ->> a.tier AS double precision) AS p_here
    FROM asked AS a
    JOIN price AS p ON p.name = a.name
    LEFT JOIN longer AS alike ON alike.name = a.name AND alike.tier = a.tier AND alike.workload = a.workload
        AND alike.shape = a.shape
    LEFT JOIN longer AS l ON l.name = a.name AND l.tier = a.tier AND l.workload IS NULL
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.is_own THEN a.completion_tokens
                    ELSE (a.completion_tokens - a.reasoning_tokens) * coalesce(alike.ratio, l.ratio, 1)::numeric
                         + coalesce(alike.beside, l.beside, a.reasoning_tokens)::numeric END
               * p.output_usd * p.multiplier / 1000000 AS usd
    ) AS said
),
baseline AS (
    SELECT name, tier, is_own, by_workload, count(tier) AS answers, sum(usd) AS usd,
           coalesce(sum(spent_usd) FILTER (WHERE tier IS NULL), 0) AS unanswered_usd,
           coalesce(sum(estimated_usd), 0) AS estimated_usd, coalesce(sum(unconfirmed_usd), 0) AS unconfirmed_usd,
           coalesce(sum(usual_usd), 0) AS usual_usd,
           count(*) FILTER (WHERE measured) AS measured, coalesce(sum(usd) FILTER (WHERE measured), 0) AS measured_usd,
           coalesce(sum(spent_usd) FILTER (WHERE measured), 0) AS spent_usd,
           coalesce(sum(p_there) FILTER (WHERE measured), 0) AS well,
           coalesce(sum(p_here) FILTER (WHERE measured), 0) AS well_here
    FROM priced
    GROUP BY name, tier, is_own, by_workload
),
costliest AS (
    SELECT workload FROM priced
    WHERE CAST(:noted AS boolean) AND name = 'top' AND workload <> ''
    GROUP BY workload
    ORDER BY sum(spent_usd) DESC, workload
    LIMIT 100
),
of_router AS (
    SELECT CASE WHEN workload IN (SELECT workload FROM costliest) THEN workload ELSE '' END AS workload, router, version,
           coalesce(tier, '') AS tier, count(*) AS queries, count(tier) AS answers,
           sum(spent_usd) AS cost_usd, coalesce(sum(usd), 0) AS baseline_usd
    FROM priced
    WHERE CAST(:noted AS boolean) AND name = 'top' AND workload IS NOT NULL
    GROUP BY 1, 2, 3, 4
),
routed AS (
    SELECT r.workload, r.router, r.version, r.tier, r.answers, r.baseline_usd,
           r.cost_usd + g.router_usd * r.queries / sum(r.queries) OVER ()
               + CASE WHEN r.router = 'pilot' THEN g.grade_usd * r.queries / sum(r.queries) OVER (PARTITION BY r.router)
                      ELSE 0 END AS cost_usd
    FROM of_router AS r
    CROSS JOIN (SELECT coalesce(sum(cost_usd) FILTER (WHERE purpose = 'grade'), 0) AS grade_usd,
                       coalesce(sum(cost_usd) FILTER (WHERE purpose <> 'grade'), 0) AS router_usd
                FROM c WHERE query_id IS NULL) AS g
),
spent AS (
    SELECT count(*) AS calls,
           count(*) FILTER (WHERE outcome IS NULL) AS open_calls,
           count(*) FILTER (WHERE outcome <> 'ok') AS failed_calls,
           count(*) FILTER (WHERE outcome = ANY(CAST(:unsent AS text[]))) AS unsent_calls,
           sum(cost_usd) AS usd, sum(unconfirmed_usd) AS unconfirmed_usd, sum(usual_usd) AS usual_usd,
           sum(cost_usd) FILTER (WHERE purpose = 'route') AS router_usd,
           count(*) FILTER (WHERE purpose = 'embed') AS embed_calls,
           coalesce(sum(cost_usd) FILTER (WHERE purpose = 'embed'), 0) AS embed_usd,
           sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms)
               FILTER (WHERE outcome = 'ok' AND purpose IN ('answer', 'embed', 'hedge', 'extend')) AS latency_ms
    FROM c
)
SELECT s.calls, s.open_calls, s.failed_calls, s.unsent_calls, s.embed_calls, s.embed_usd,
       coalesce(s.usd, 0) AS cost_usd, coalesce(s.unconfirmed_usd, 0) AS unconfirmed_usd, coalesce(s.usual_usd, 0) AS unconfirmed_usual_usd,
       coalesce(s.router_usd, 0) AS router_cost_usd,
       coalesce((SELECT jsonb_agg(to_jsonb(b)) FROM baseline AS b), '[]') AS baselines,
       coalesce((SELECT jsonb_agg(to_jsonb(r)) FROM routed AS r), '[]') AS routed,
       coalesce(s.prompt_tokens, 0)::bigint AS prompt_tokens,
       coalesce(s.completion_tokens, 0)::bigint AS completion_tokens,
       s.latency_ms
FROM spent AS s
