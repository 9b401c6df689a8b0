-- Calls that ended within a period, by tenant, ten seconds, deployment, outcome and latency.
-- `differs` counts those whose cost the provider reports otherwise than the price table, by more than `billing.DIFFERENCE`.
-- `latency` numbers the interval between two of :bounds_ms in which the latency of a call lies: 0 is below the first.
SELECT c.bucket, b.tenant, c.purpose, c.tier, c.deployment, c.provider, c.model, c.outcome, c.latency,
       sum(c.n)::bigint AS n, sum(c.differs)::bigint AS differs, sum(c.cost_usd) AS cost_usd, sum(c.latency_ms) AS latency_ms,
       sum(c.prompt_tokens)::bigint AS prompt_tokens, sum(c.completion_tokens)::bigint AS completion_tokens
FROM (
    SELECT date_bin('10 seconds', finished_at, 'epoch') AS bucket, batch_id, purpose, tier, deployment, provider, model, outcome,
           width_bucket(latency_ms, CAST(:bounds_ms AS double precision[])) AS latency,
           count(*) AS n,
           count(*) FILTER (WHERE abs(reported_usd - computed_usd)
                                  > greatest(0.01 * greatest(reported_usd, computed_usd), 0.000001)) AS differs,
           sum(cost_usd) AS cost_usd, sum(coalesce(latency_ms, 0)) AS latency_ms,
           sum(coalesce(prompt_tokens, 0)) AS prompt_tokens, sum(coalesce(completion_tokens, 0)) AS completion_tokens
    FROM calls
    WHERE finished_at >= :since AND finished_at < :until
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
) AS c
JOIN batches AS b ON b.id = c.batch_id
GROUP BY c.bucket, b.tenant, c.purpose, c.tier, c.deployment, c.provider, c.model, c.outcome, c.latency
