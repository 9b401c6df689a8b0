-- What routed the queries of a tenant's workload in the batches of the last `days` days, with what they came to by tier:
-- a certified policy, which is its batch's alone (the sample included), a trained router by its version, or a rule.
-- At most 2,000 rows: all routers, then the newest policies.
SELECT CASE WHEN s.is_policy THEN b.id END AS batch_id, CASE WHEN s.is_policy THEN b.public_id END AS public_id,
       CASE WHEN s.is_policy THEN b.source END AS source, CASE WHEN s.is_policy THEN b.ended_at END AS ended_at,
       s.router, s.version, r.name, CASE WHEN s.is_policy THEN t.decided_at ELSE r.added_at END AS made_at, s.tier,
       CAST(sum(s.answers) AS bigint) AS answers, sum(s.cost_usd) AS cost_usd, sum(s.baseline_usd) AS baseline_usd
FROM (SELECT *, router IN ('pilot', 'quality_policy') AS is_policy FROM workload_sums WHERE workload = :workload) AS s
JOIN batches AS b ON b.id = s.batch_id
LEFT JOIN pilots AS t ON t.batch_id = b.id
LEFT JOIN LATERAL (
    SELECT r.name, r.added_at FROM routers AS r
    WHERE s.version <> '' AND starts_with(r.digest, s.version) ORDER BY r.added_at DESC LIMIT 1
) AS r ON true
WHERE b.tenant = :tenant AND b.simulated = :simulated
  AND b.created_at >= now() - make_interval(days => CAST(:days AS integer))
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ORDER BY batch_id DESC, answers DESC, s.router, s.tier
LIMIT 2000
