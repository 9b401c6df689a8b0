-- What calls with a result cost, the last `days` UTC days, by one of tenant, key, workload, tier and day (each day by
-- tier); of one tenant and of one workload, or of all where these are null. `all_usd` and `all_calls` are
-- over all rows, also where `rows` cuts them.
SELECT CASE WHEN CAST(:by AS text) = 'day' THEN s.day END AS day,
       CASE WHEN CAST(:by AS text) IN ('tenant', 'key', 'workload') THEN s.tenant END AS tenant,
       CASE WHEN CAST(:by AS text) = 'key' THEN s.key_id END AS key,
       CASE WHEN CAST(:by AS text) = 'key' THEN k.name END AS name,
       CASE WHEN CAST(:by AS text) = 'workload' THEN s.workload END AS workload,
       CASE WHEN CAST(:by AS text) IN ('tier', 'day') THEN s.tier END AS tier,
       CAST(sum(s.calls) AS bigint) AS calls, CAST(sum(s.prompt_tokens) AS bigint) AS prompt_tokens,
       CAST(sum(s.completion_tokens) AS bigint) AS completion_tokens, sum(s.cost_usd) AS cost_usd,
       CAST(sum(sum(s.calls)) OVER () AS bigint) AS all_calls, sum(sum(s.cost_usd)) OVER () AS all_usd,
       max(max(s.summed_at)) OVER () AS summed_at
FROM spend_daily AS s
LEFT JOIN api_keys AS k ON k.id = s.key_id
WHERE s.day > CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS integer)
  AND s.simulated = :simulated
  AND (CAST(:tenant AS text) IS NULL OR s.tenant = :tenant)
  AND (CAST(:workload AS text) IS NULL OR s.workload = :workload)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY day, cost_usd DESC, tenant, key, workload, tier
LIMIT CAST(:rows AS integer)
