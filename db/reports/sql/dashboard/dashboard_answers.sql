-- Answers within a period by tenant, ten seconds and tier, and the cost of the same answers at the top tier; a row without
-- a tier has that of queries that ended without one, less what a resumed query had counted: its next end counts all its
-- calls again.
--
-- The baseline is that of batch_costs.sql, by the batch's own price list and the ratios and offsets that length_ratios.py
-- gives for it, of all its queries or of a workload and shape; without any, lengths are equal. Only the fallback takes an
-- answer from below the top tier after a call there. Embeddings are counted, but have no baseline: no model of the ladder
-- answers them.
WITH longer AS MATERIALIZED (
    SELECT *
    FROM unnest(CAST(:ratio_batches AS bigint[]), CAST(:ratio_tiers AS text[]), CAST(:ratio_workloads AS text[]),
                CAST(:ratio_shapes AS text[]), CAST(:ratios AS double precision[]), CAST(:offsets AS double precision[]))
         AS l (batch_id, tier, workload, shape, ratio, beside)
),
top AS (
    SELECT p.digest, x.*
    FROM price_lists AS p
    CROSS JOIN LATERAL jsonb_to_record(p.content -> 'top') AS x (
        tier text, input_usd_per_mtok numeric, cached_input_usd_per_mtok numeric, output_usd_per_mtok numeric,
        multiplier numeric)
)
SELECT date_bin('10 seconds', d.at, 'epoch') AS bucket, b.tenant, d.tier, count(*) AS n,
       sum(coalesce(t.cost_usd, l.multiplier / 1000000 * (
           (coalesce(own.prompt_tokens, c.prompt_tokens, 0) - coalesce(own.cached_tokens, c.cached_tokens, 0))
               * l.input_usd_per_mtok
           + coalesce(own.cached_tokens, c.cached_tokens, 0) * l.cached_input_usd_per_mtok
           + CASE WHEN c.tier = l.tier OR r.ratio IS NULL THEN coalesce(c.completion_tokens, 0)
                  ELSE (coalesce(c.completion_tokens, 0) - coalesce(c.reasoning_tokens, 0)) * r.ratio::numeric
                       + r.beside::numeric END * l.output_usd_per_mtok)))
           FILTER (WHERE c.purpose <> 'embed') AS baseline_usd
FROM decisions AS d
JOIN batches AS b ON b.id = d.batch_id
JOIN top AS l ON l.digest = b.price_list
-- One by one by its key, whatever the planner thinks of how many there are.
CROSS JOIN LATERAL (
    SELECT called.* FROM calls AS called
    WHERE called.id = d.call_id AND called.created_at > CAST(:since AS timestamptz) - interval '7 days'
    LIMIT 1
) AS c
LEFT JOIN LATERAL (
    SELECT asked.prompt_tokens, asked.cached_tokens FROM calls AS asked
    WHERE c.purpose = 'repair' AND asked.query_id = c.query_id AND asked.tier = c.tier AND asked.outcome = 'ok'
      AND asked.purpose IN ('answer', 'hedge')
    ORDER BY asked.id
    LIMIT 1
) AS own ON true
LEFT JOIN LATERAL (
    SELECT sum(there.cost_usd) AS cost_usd FROM calls AS there
    WHERE (c.tier = l.tier OR d.kind = 'fallback') AND there.query_id = d.query_id AND there.tier = l.tier
      AND there.purpose IN ('answer', 'hedge', 'extend', 'repair') AND there.lane IS NULL
    HAVING bool_or(there.outcome = 'ok')
) AS t ON true
LEFT JOIN LATERAL (
    SELECT coalesce(n.detail ->> 'workload', '') AS workload, coalesce(n.detail ->> 'shape', '') AS shape
    FROM decisions AS n
    WHERE n.query_id = d.query_id AND n.kind = 'route'
      AND EXISTS (SELECT FROM longer WHERE longer.batch_id = d.batch_id AND longer.workload IS NOT NULL)
    ORDER BY n.id
    LIMIT 1
) AS noted ON true
LEFT JOIN LATERAL (
    SELECT longer.ratio, longer.beside FROM longer
    WHERE longer.batch_id = d.batch_id AND longer.tier = c.tier
      AND (longer.workload IS NULL OR (longer.workload, longer.shape) = (noted.workload, noted.shape))
    ORDER BY longer.workload NULLS LAST
    LIMIT 1
) AS r ON true
WHERE d.at >= :since AND d.at < :until AND d.to_state = 'done'
GROUP BY 1, 2, 3
UNION ALL
SELECT date_bin('10 seconds', d.at, 'epoch'), b.tenant, NULL, 0,
       sum(CASE WHEN d.move = 'resume' THEN -c.baseline_usd ELSE c.baseline_usd END)
FROM decisions AS d
JOIN batches AS b ON b.id = d.batch_id
JOIN top AS l ON l.digest = b.price_list
CROSS JOIN LATERAL (
    SELECT coalesce(
        sum(cost_usd) FILTER (WHERE tier = l.tier AND purpose IN ('answer', 'hedge', 'extend', 'repair', 'audit')),
        sum(cost_usd)) AS baseline_usd
    FROM calls
    WHERE query_id = d.query_id AND purpose <> 'embed' AND created_at <= d.at
) AS c
WHERE d.at >= :since AND d.at < :until
  AND (d.to_state IN ('failed', 'dead', 'expired', 'cancelled') OR d.move = 'resume')
GROUP BY 1, 2
