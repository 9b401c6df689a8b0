-- The cost of a batch, the cost of its routers, and the cost of the same answers at the top tier.
--
-- The baseline, per answered query: the real cost of its last complete call at the top tier if there is one, else the
-- tokens of the call that gave its answer at the price of the top tier's first model.
-- A query without an answer adds nothing to the baseline, so the saving is rather under- than overstated.
WITH c AS MATERIALIZED (
    SELECT id, query_id, purpose, tier, outcome, coalesce(cost_usd, reserved_usd) AS cost_usd, latency_ms,
           coalesce(prompt_tokens, 0) AS prompt_tokens, coalesce(cached_tokens, 0) AS cached_tokens,
           coalesce(completion_tokens, 0) AS completion_tokens
    FROM calls
    WHERE batch_id = :batch_id
),
at_top AS (
    SELECT DISTINCT ON (query_id) query_id, cost_usd
    FROM c
    WHERE tier = :top AND outcome = 'ok' AND purpose IN ('answer', 'hedge', 'extend') AND query_id IS NOT NULL
    ORDER BY query_id, id DESC
),
baseline AS (
    SELECT sum(coalesce(t.cost_usd, CAST(:multiplier AS numeric) / 1000000 * (
               (c.prompt_tokens - c.cached_tokens) * CAST(:input_usd_per_mtok AS numeric)
               + c.cached_tokens * CAST(:cached_usd_per_mtok AS numeric)
               + c.completion_tokens * CAST(:output_usd_per_mtok AS numeric)))) AS usd
    FROM answers AS a
    JOIN c ON c.id = a.call_id
    JOIN queries AS q ON q.id = a.query_id AND q.state = 'done'
    LEFT JOIN at_top AS t ON t.query_id = a.query_id
),
spent AS (
    SELECT count(*) AS calls,
           count(*) FILTER (WHERE outcome IS NULL) AS open_calls,
           count(*) FILTER (WHERE outcome <> 'ok') AS failed_calls,
           sum(cost_usd) AS usd,
           sum(cost_usd) FILTER (WHERE purpose = 'route') AS router_usd,
           sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms)
               FILTER (WHERE outcome = 'ok' AND purpose IN ('answer', 'hedge', 'extend')) AS latency_ms
    FROM c
)
SELECT s.calls, s.open_calls, s.failed_calls,
       coalesce(s.usd, 0) AS cost_usd, coalesce(s.router_usd, 0) AS router_cost_usd,
       coalesce(b.usd, 0) AS baseline_cost_usd,
       coalesce(s.prompt_tokens, 0)::bigint AS prompt_tokens,
       coalesce(s.completion_tokens, 0)::bigint AS completion_tokens,
       s.latency_ms
FROM spent AS s
CROSS JOIN baseline AS b
