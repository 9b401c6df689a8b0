-- Calls of real batches by UTC day, provider and the model that answered, from the first day to the last; what was purged
-- included. `uncertain` calls have no confirmed cost: the reservation counts, the most that they can have cost.
SELECT d.day, d.provider, d.model, sum(d.calls)::bigint AS calls, sum(d.uncertain)::bigint AS uncertain,
       sum(d.uncertain_usd) AS uncertain_usd,
       sum(d.prompt_tokens)::bigint AS input_tokens, sum(d.completion_tokens)::bigint AS output_tokens,
       sum(d.cost_usd) AS cost_usd
FROM (
    SELECT CAST(c.created_at AT TIME ZONE 'UTC' AS date) AS day, c.provider, coalesce(c.answered_by, c.model) AS model,
           count(*) AS calls, count(*) FILTER (WHERE at_most.is_so) AS uncertain,
           coalesce(sum(c.reserved_usd) FILTER (WHERE at_most.is_so), 0) AS uncertain_usd,
           coalesce(sum(c.prompt_tokens), 0) AS prompt_tokens, coalesce(sum(c.completion_tokens), 0) AS completion_tokens,
           sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd
    FROM calls AS c
    JOIN batches AS b ON b.id = c.batch_id AND NOT b.simulated
    CROSS JOIN LATERAL (
        SELECT c.outcome IS DISTINCT FROM 'ok' AND coalesce(c.cost_usd, c.reserved_usd) = c.reserved_usd AS is_so
    ) AS at_most
    WHERE c.created_at >= CAST(:first AS date)::timestamp AT TIME ZONE 'UTC'
      AND c.created_at < (CAST(:last AS date) + 1)::timestamp AT TIME ZONE 'UTC'
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT k.day, k.provider, k.model, k.calls, 0, 0, coalesce(k.prompt_tokens, 0), coalesce(k.completion_tokens, 0),
           k.cost_usd
    FROM kept_calls AS k
    JOIN batches AS b ON b.id = k.batch_id AND NOT b.simulated
    WHERE k.day BETWEEN :first AND :last
) AS d
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
