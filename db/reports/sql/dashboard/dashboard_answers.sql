-- Answers within a period by tenant, ten seconds and tier, and the cost of the same answers at the top tier.
--
-- The baseline is that of batch_costs.sql, by the batch's own price list: the real cost of the last complete call at the
-- top tier if there is one, else the tokens of the call that gave the answer at the price of the top tier's first model,
-- those of its text times how much longer that was in the batch's pilot, and the reasoning beside it. Without a pilot they are assumed
-- equal. Only the fallback takes an answer from below the top tier after a call there. Embeddings are counted, but have no
-- baseline: no model of the ladder answers them.
SELECT date_bin('10 seconds', d.at, 'epoch') AS bucket, b.tenant, d.tier, count(*) AS n,
       sum(coalesce(t.cost_usd, l.multiplier / 1000000 * (
           (coalesce(own.prompt_tokens, c.prompt_tokens, 0) - coalesce(own.cached_tokens, c.cached_tokens, 0))
               * l.input_usd_per_mtok
           + coalesce(own.cached_tokens, c.cached_tokens, 0) * l.cached_input_usd_per_mtok
           + CASE WHEN c.tier = l.tier OR NOT coalesce(s.lengths ? c.tier, false) THEN coalesce(c.completion_tokens, 0)
                  ELSE (coalesce(c.completion_tokens, 0) - coalesce(c.reasoning_tokens, 0))
                           * CAST(s.lengths -> c.tier ->> 'ratio' AS numeric)
                       + CAST(s.lengths -> c.tier ->> 'offset' AS numeric) END * l.output_usd_per_mtok)))
           FILTER (WHERE c.purpose <> 'embed') AS baseline_usd
FROM decisions AS d
JOIN batches AS b ON b.id = d.batch_id
LEFT JOIN pilots AS s ON s.batch_id = d.batch_id
JOIN (
    SELECT p.digest, x.*
    FROM price_lists AS p
    CROSS JOIN LATERAL jsonb_to_record(p.content -> 'top') AS x (
        tier text, input_usd_per_mtok numeric, cached_input_usd_per_mtok numeric, output_usd_per_mtok numeric,
        multiplier numeric)
) AS l ON l.digest = b.price_list
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
    SELECT top.cost_usd FROM calls AS top
    WHERE (c.tier = l.tier OR d.kind = 'fallback')
      AND top.query_id = d.query_id AND top.tier = l.tier AND top.outcome = 'ok' AND top.purpose IN ('answer', 'hedge', 'extend')
      AND top.lane IS NULL
    ORDER BY top.id DESC
    LIMIT 1
) AS t ON true
WHERE d.at >= :since AND d.at < :until AND d.to_state = 'done'
GROUP BY 1, 2, 3
