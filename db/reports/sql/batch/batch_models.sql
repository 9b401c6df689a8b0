-- Calls of a batch by deployment and purpose, with their outcomes. An unknown cost counts at its reservation.
SELECT tier, deployment, provider, model, purpose, count(*) AS calls,
       count(*) FILTER (WHERE outcome = 'ok') AS ok,
       count(*) FILTER (WHERE outcome = 'rate_limited') AS rate_limited,
       count(*) FILTER (WHERE outcome IS NULL) AS open_calls,
       coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
       coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
       coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
       sum(coalesce(cost_usd, reserved_usd)) AS cost_usd,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) FILTER (WHERE outcome = 'ok') AS p95_ms,
       coalesce(sum(coalesce(cache_write_tokens, 0) + coalesce(cache_write_1h_tokens, 0)), 0)::bigint
           AS cache_write_tokens,
       sum(reported_usd) AS reported_usd, sum(computed_usd) AS computed_usd
FROM calls
WHERE batch_id = :batch_id
GROUP BY tier, deployment, provider, model, purpose
ORDER BY cost_usd DESC, deployment, purpose
