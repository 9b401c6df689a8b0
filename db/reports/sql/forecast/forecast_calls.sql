-- Cost and latency of complete calls, per batch and tier, from the first few thousand of each batch.
SELECT c.batch_id, c.tier, count(*) AS calls, avg(c.cost_usd)::double precision AS cost_usd,
       avg(c.latency_ms)::double precision AS latency_ms
FROM unnest(CAST(:batch_ids AS bigint[])) AS b (id)
CROSS JOIN LATERAL (
    SELECT batch_id, tier, cost_usd, latency_ms FROM calls
    WHERE batch_id = b.id AND outcome = 'ok' AND purpose <> 'route'
    LIMIT :each
) AS c
GROUP BY c.batch_id, c.tier
