-- Cost and latency of complete answers, per batch and tier, from the first few thousand calls of each batch.
-- The calls that only judge or repair an answer are part of its cost, and not answers of their own. Those of other lanes
-- than standard have other prices, and no latency of their own.
SELECT c.batch_id, c.tier, count(*) FILTER (WHERE c.is_answer) AS calls,
       (sum(c.cost_usd) / nullif(count(*) FILTER (WHERE c.is_answer), 0))::double precision AS cost_usd,
       (avg(c.reasoning_tokens) FILTER (WHERE c.is_answer))::double precision AS reasoning_tokens,
       (avg(c.latency_ms) FILTER (WHERE c.is_answer))::double precision AS latency_ms
FROM unnest(CAST(:batch_ids AS bigint[])) AS b (id)
CROSS JOIN LATERAL (
    SELECT batch_id, tier, cost_usd, latency_ms, coalesce(reasoning_tokens, 0) AS reasoning_tokens,
           purpose IN ('answer', 'hedge', 'extend') AS is_answer FROM calls
    WHERE batch_id = b.id AND outcome = 'ok' AND purpose <> 'route' AND lane IS NULL
    LIMIT :each
) AS c
GROUP BY c.batch_id, c.tier
HAVING count(*) FILTER (WHERE c.is_answer) > 0
