-- Cost of the answers of a batch had one tier given them all, and how many of them the router expected that tier to
-- give well, over the queries for which it logged an expectation at every rung (`measured`).
--
-- The cost follows the baseline in batch_costs.sql: the last complete call of the query at the tier if there is one,
-- else the tokens of the call that gave the answer at the price of the tier's first model, with the same `ratios` of
-- lengths. The expectation is the
-- router's own for each query and tier, also for the tier that answered, so that all tiers are measured alike. Embeddings
-- are left out: no tier of a baseline answers them.
WITH price AS (
    SELECT *
    FROM unnest(CAST(:tiers AS text[]), CAST(:input_usd_per_mtok AS numeric[]), CAST(:cached_usd_per_mtok AS numeric[]),
                CAST(:output_usd_per_mtok AS numeric[]), CAST(:multipliers AS numeric[]))
         AS p (tier, input_usd, cached_usd, output_usd, multiplier)
),
longer AS (
    SELECT *
    FROM unnest(CAST(:ratio_names AS text[]), CAST(:ratio_tiers AS text[]), CAST(:ratio_workloads AS text[]),
                CAST(:ratio_shapes AS text[]), CAST(:ratios AS double precision[]))
         AS l (name, tier, workload, shape, ratio)
),
c AS MATERIALIZED (
    SELECT id, query_id, tier, outcome, purpose, coalesce(cost_usd, reserved_usd) AS cost_usd,
           coalesce(prompt_tokens, 0) AS prompt_tokens, coalesce(cached_tokens, 0) AS cached_tokens,
           coalesce(completion_tokens, 0) AS completion_tokens
    FROM calls
    WHERE batch_id = :batch_id AND query_id IS NOT NULL AND purpose <> 'route'
),
at_tier AS (
    SELECT DISTINCT ON (query_id, tier) query_id, tier, cost_usd
    FROM c
    WHERE outcome = 'ok' AND purpose IN ('answer', 'hedge', 'extend', 'audit')
    ORDER BY query_id, tier, id DESC
),
own_prompt AS (  -- a repair's prompt holds the answer that it repairs (see batch_costs.sql)
    SELECT c.query_id, c.tier, min(c.prompt_tokens) AS prompt_tokens, min(c.cached_tokens) AS cached_tokens
    FROM (SELECT DISTINCT query_id, tier FROM c WHERE purpose = 'repair') AS repaired
    JOIN c ON c.query_id = repaired.query_id AND c.tier = repaired.tier
    WHERE c.outcome = 'ok' AND c.purpose IN ('answer', 'hedge')
    GROUP BY c.query_id, c.tier
),
expected AS (
    SELECT DISTINCT ON (query_id) query_id, detail -> 'p_ok' AS p_ok, coalesce(detail ->> 'workload', '') AS workload,
           coalesce(detail ->> 'shape', '') AS shape
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id
),
spent AS (
    SELECT query_id, sum(cost_usd) AS cost_usd
    FROM c
    GROUP BY query_id
),
answered AS MATERIALIZED (
    SELECT a.query_id, a.tier, coalesce(own.prompt_tokens, c.prompt_tokens) AS prompt_tokens,
           coalesce(own.cached_tokens, c.cached_tokens) AS cached_tokens, c.completion_tokens, e.p_ok,
           e.workload, e.shape,
           CAST(e.p_ok ->> a.tier AS double precision) AS p_here, s.cost_usd AS spent_usd
    FROM batches AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND q.state = 'done'
    JOIN answers AS a ON a.query_id = q.id
    JOIN c ON c.id = a.call_id AND c.purpose <> 'embed'
    LEFT JOIN own_prompt AS own ON c.purpose = 'repair' AND own.query_id = c.query_id AND own.tier = c.tier
    JOIN spent AS s ON s.query_id = a.query_id
    LEFT JOIN expected AS e ON e.query_id = a.query_id
    WHERE b.id = :batch_id
),
priced AS (
    SELECT p.tier, a.tier AS tier_here, a.p_here, a.spent_usd, CAST(a.p_ok ->> p.tier AS double precision) AS p_there,
           a.p_here IS NOT NULL AND a.p_ok ?& CAST(:ladder AS text[]) AS measured,
           coalesce(t.cost_usd, p.multiplier / 1000000 * (
               (a.prompt_tokens - a.cached_tokens) * p.input_usd + a.cached_tokens * p.cached_usd
               + a.completion_tokens * p.output_usd * coalesce(alike.ratio, l.ratio, 1)::numeric)) AS cost_usd
    FROM answered AS a
    CROSS JOIN price AS p
    LEFT JOIN longer AS alike ON alike.name = p.tier AND alike.tier = a.tier AND a.tier <> p.tier
        AND alike.workload = a.workload AND alike.shape = a.shape
    LEFT JOIN longer AS l ON l.name = p.tier AND l.tier = a.tier AND a.tier <> p.tier AND l.workload IS NULL
    LEFT JOIN at_tier AS t ON t.query_id = a.query_id AND t.tier = p.tier
)
SELECT tier, count(*) AS answers, sum(cost_usd) AS cost_usd,
       count(*) FILTER (WHERE measured) AS measured,
       count(*) FILTER (WHERE measured AND tier_here = tier) AS measured_here,
       sum(cost_usd) FILTER (WHERE measured) AS measured_usd,
       avg(p_there) FILTER (WHERE measured) AS well,
       sum(spent_usd) FILTER (WHERE measured) AS spent_usd,
       avg(p_here) FILTER (WHERE measured) AS well_here
FROM priced
GROUP BY tier
