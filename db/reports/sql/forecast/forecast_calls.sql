-- Answers per batch, tier, workload and shape: what they cost, took and waited, of a sample of earlier queries.
--
-- A query's workload and shape are what its routing noted; a system prompt that one of them alone has is no workload.
-- A repair is part of an answer's cost, and no answer of its own. Calls of other lanes than standard have other prices,
-- and no latency of their own.
--
-- `text_tokens` and `reasoning_tokens` are the means of the `fair_answers`: in a batch with a pilot those of its random
-- sample, for what climbed to a tier later is longer than what the tier would be asked alone. Null where there are none.
WITH noted AS (
    SELECT c.*, coalesce(r.workload, '') AS workload, coalesce(r.shape, '') AS shape, c.is_answer AND is_fair AS is_fair_answer
    FROM (
        SELECT of_query.*, q.pilot OR NOT EXISTS (SELECT FROM pilots WHERE batch_id = of_query.batch_id) AS is_fair
        FROM unnest(CAST(:query_ids AS bigint[])) AS sampled (id)
        JOIN queries AS q ON q.id = sampled.id
        CROSS JOIN LATERAL (
            SELECT batch_id, query_id, tier, cost_usd, latency_ms, coalesce(completion_tokens, 0) AS completion_tokens,
                   coalesce(reasoning_tokens, 0) AS reasoning_tokens, purpose <> 'repair' AS is_answer
            FROM calls
            WHERE query_id = q.id AND outcome = 'ok' AND lane IS NULL
              AND purpose IN ('answer', 'embed', 'hedge', 'extend', 'repair')
            OFFSET 0  -- or all calls of the batches would be read
        ) AS of_query
        WHERE of_query.batch_id = ANY(CAST(:batch_ids AS bigint[]))
    ) AS c
    LEFT JOIN LATERAL (
        SELECT d.detail ->> 'workload' AS workload, d.detail ->> 'shape' AS shape
        FROM decisions AS d
        WHERE d.query_id = c.query_id AND d.kind = 'route'
        ORDER BY d.id DESC
        LIMIT 1
    ) AS r ON true
),
named AS (
    SELECT noted.*, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY batch_id, tier, workload) = 1
                         THEN '' ELSE workload END AS of_workload
    FROM noted
)
SELECT batch_id, tier, of_workload AS workload, shape, count(*) FILTER (WHERE is_answer) AS answers,
       (sum(cost_usd) / nullif(count(*) FILTER (WHERE is_answer), 0))::double precision AS cost_usd,
       (avg(completion_tokens) FILTER (WHERE is_answer))::double precision AS completion_tokens,
       count(*) FILTER (WHERE is_fair_answer) AS fair_answers,
       (avg(completion_tokens - reasoning_tokens) FILTER (WHERE is_fair_answer))::double precision AS text_tokens,
       (avg(reasoning_tokens) FILTER (WHERE is_fair_answer))::double precision AS reasoning_tokens,
       (avg(latency_ms) FILTER (WHERE is_answer))::double precision AS latency_ms,
       coalesce(regr_sxx(latency_ms, completion_tokens) FILTER (WHERE is_answer), 0) AS tokens_squared,
       coalesce(regr_sxy(latency_ms, completion_tokens) FILTER (WHERE is_answer), 0) AS ms_by_tokens
FROM named
GROUP BY batch_id, tier, of_workload, shape
HAVING count(*) FILTER (WHERE is_answer) > 0
