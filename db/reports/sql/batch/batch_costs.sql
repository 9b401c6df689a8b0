-- The cost of a batch, the cost of its routers, and the cost of the same answers at each baseline, by its name.
--
-- A baseline is a tier, or a model, at its list price. Per answered query: the real cost of the last complete call there
-- if there is one that no lane made cheaper, else the tokens of the call that gave the answer at the baseline's price,
-- those of the completion times how much longer the baseline's answers are (`ratios`, by the tier of the answer: see
-- batch_length_ratios.sql). A query without an answer adds nothing to a baseline, so the saving is rather under- than
-- overstated. Nor does a follower: the saving of not asking it is not a merit of the routing. Nor do embeddings, which
-- no model of a baseline answers.
--
-- `routed`, only where `by_router`: answers, cost and the baseline 'top' by workload, what routed the query first, and
-- tier, without embeddings. A system prompt that one query alone has is not a workload. What grades the pilot cost is
-- shared among its queries; other calls that serve several queries belong to none.
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
                CAST(:ratio_shapes AS text[]), CAST(:ratios AS double precision[]))
         AS l (name, tier, workload, shape, ratio)
),
c AS MATERIALIZED (
    SELECT id, query_id, purpose, tier, model, outcome, lane, coalesce(cost_usd, reserved_usd) AS cost_usd, latency_ms,
           coalesce(prompt_tokens, 0) AS prompt_tokens, coalesce(cached_tokens, 0) AS cached_tokens,
           coalesce(completion_tokens, 0) AS completion_tokens
    FROM calls
    WHERE batch_id = :batch_id
),
-- A repair's prompt holds the answer that it repairs: at a baseline the query would have been asked by its own.
own_prompt AS (
    SELECT c.query_id, c.tier, min(c.prompt_tokens) AS prompt_tokens, min(c.cached_tokens) AS cached_tokens
    FROM (SELECT DISTINCT query_id, tier FROM c WHERE purpose = 'repair') AS repaired
    JOIN c ON c.query_id = repaired.query_id AND c.tier = repaired.tier
    WHERE c.outcome = 'ok' AND c.purpose IN ('answer', 'hedge')
    GROUP BY c.query_id, c.tier
),
answered AS (
    SELECT a.query_id, c.tier, c.model, c.completion_tokens, coalesce(own.prompt_tokens, c.prompt_tokens) AS prompt_tokens,
           coalesce(own.cached_tokens, c.cached_tokens) AS cached_tokens
    FROM answers AS a
    JOIN c ON c.id = a.call_id AND c.query_id = a.query_id  -- not where another query's answer was taken
          AND c.purpose <> 'embed'
    LEFT JOIN own_prompt AS own ON c.purpose = 'repair' AND own.query_id = c.query_id AND own.tier = c.tier
),
noted AS (  -- only where a ratio is of a workload, or `by_router`
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload,
           coalesce(detail ->> 'shape', '') AS shape, router, coalesce(detail ->> 'version', '') AS version
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
      AND (CAST(:by_router AS boolean) OR EXISTS (SELECT 1 FROM longer WHERE workload IS NOT NULL))
    ORDER BY query_id, id
),
called AS (
    SELECT DISTINCT ON (p.name, c.query_id) p.name, c.query_id, c.cost_usd
    FROM c
    JOIN price AS p ON c.tier = p.tier OR c.model = p.model
    WHERE c.outcome = 'ok' AND c.purpose IN ('answer', 'hedge', 'extend', 'audit') AND c.query_id IS NOT NULL
      AND c.lane IS NULL
    ORDER BY p.name, c.query_id, c.id DESC
),
priced AS (
    SELECT p.name, c.query_id, c.tier, t.query_id IS NOT NULL OR c.is_own AS is_own, alike.ratio IS NOT NULL AS by_workload,
           coalesce(t.cost_usd, p.multiplier / 1000000 * (
               (c.prompt_tokens - c.cached_tokens) * p.input_usd
               + c.cached_tokens * p.cached_usd
               + c.completion_tokens * p.output_usd
                   * CASE WHEN c.is_own THEN 1 ELSE coalesce(alike.ratio, l.ratio, 1)::numeric END)) AS usd
    FROM (
        SELECT a.*, p.name, (a.tier = p.tier OR a.model = p.model) IS TRUE AS is_own
        FROM answered AS a
        CROSS JOIN price AS p
    ) AS c
    JOIN price AS p ON p.name = c.name
    JOIN queries AS q ON q.id = c.query_id AND q.state = 'done'
    LEFT JOIN called AS t ON t.query_id = c.query_id AND t.name = p.name
    LEFT JOIN noted AS n ON n.query_id = c.query_id
    LEFT JOIN longer AS alike ON alike.name = p.name AND alike.tier = c.tier AND alike.workload = n.workload
        AND alike.shape = n.shape
    LEFT JOIN longer AS l ON l.name = p.name AND l.tier = c.tier AND l.workload IS NULL
),
baseline AS (
    SELECT name, tier, is_own, by_workload, count(*) AS answers, sum(usd) AS usd
    FROM priced
    GROUP BY name, tier, is_own, by_workload
),
named AS (
    SELECT query_id, router, version, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY workload) = 1
                                           THEN '' ELSE workload END AS workload
    FROM noted
    WHERE CAST(:by_router AS boolean) AND router <> 'endpoint'
),
routed AS (
    SELECT workload, router, version, tier, sum(answers) AS answers, sum(cost_usd) AS cost_usd,
           sum(baseline_usd) AS baseline_usd
    FROM (
        SELECT n.workload, n.router, n.version, p.tier, 1 AS answers, 0 AS cost_usd, p.usd AS baseline_usd
        FROM priced AS p JOIN named AS n ON n.query_id = p.query_id
        WHERE p.name = 'top'
        UNION ALL
        SELECT n.workload, n.router, n.version, c.tier, 0, c.cost_usd, 0
        FROM c JOIN named AS n ON n.query_id = c.query_id
        UNION ALL
        SELECT n.workload, 'pilot', '', g.tier, 0, g.cost_usd * n.share, 0
        FROM (SELECT tier, sum(cost_usd) AS cost_usd FROM c WHERE purpose = 'grade' AND query_id IS NULL GROUP BY tier) AS g
        CROSS JOIN (SELECT workload, count(*) / sum(count(*)) OVER () AS share FROM named WHERE router = 'pilot'
                    GROUP BY workload) AS n
    ) AS part
    GROUP BY workload, router, version, tier
),
spent AS (
    SELECT count(*) AS calls,
           count(*) FILTER (WHERE outcome IS NULL) AS open_calls,
           count(*) FILTER (WHERE outcome <> 'ok') AS failed_calls,
           count(*) FILTER (WHERE outcome = ANY(CAST(:unsent AS text[]))) AS unsent_calls,
           sum(cost_usd) AS usd,
           sum(cost_usd) FILTER (WHERE purpose = 'route') AS router_usd,
           count(*) FILTER (WHERE purpose = 'embed') AS embed_calls,
           coalesce(sum(cost_usd) FILTER (WHERE purpose = 'embed'), 0) AS embed_usd,
           sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms)
               FILTER (WHERE outcome = 'ok' AND purpose IN ('answer', 'embed', 'hedge', 'extend')) AS latency_ms
    FROM c
)
SELECT s.calls, s.open_calls, s.failed_calls, s.unsent_calls, s.embed_calls, s.embed_usd,
       coalesce(s.usd, 0) AS cost_usd, coalesce(s.router_usd, 0) AS router_cost_usd,
       coalesce((SELECT jsonb_agg(to_jsonb(b)) FROM baseline AS b), '[]') AS baselines,
       coalesce((SELECT jsonb_agg(to_jsonb(r)) FROM routed AS r), '[]') AS routed,
       coalesce(s.prompt_tokens, 0)::bigint AS prompt_tokens,
       coalesce(s.completion_tokens, 0)::bigint AS completion_tokens,
       s.latency_ms
FROM spent AS s
