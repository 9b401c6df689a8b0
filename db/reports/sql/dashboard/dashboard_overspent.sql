-- Open batches that have cost more than a budget of theirs, and more than the most that their forecast said.
-- Only budgets keep a sum of costs at hand, so a batch without a budget of its own is not compared with its forecast.
SELECT count(*) FILTER (WHERE g.settled_usd > g.cap_usd OR d.settled_usd > d.cap_usd) AS budget,
       count(*) FILTER (WHERE g.settled_usd > CAST(b.plan #>> '{cost_usd,high}' AS numeric)) AS forecast
FROM batches AS b
LEFT JOIN budgets AS g ON g.batch_id = b.id
LEFT JOIN budgets AS d ON d.tenant = b.tenant AND d.day = CAST(now() AT TIME ZONE 'UTC' AS date)
WHERE b.ended_at IS NULL
