-- Queries of a batch that have the answer of another, by its tier, and what that other's calls cost: so much once more for
-- each of them.
SELECT d.tier, count(*) AS queries, coalesce(sum(led.cost_usd), 0) AS usd
FROM decisions AS d
JOIN queries AS q ON q.id = d.query_id AND q.state = 'done'
CROSS JOIN LATERAL (
    SELECT sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd FROM calls AS c
    WHERE c.query_id = CAST(d.detail ->> 'leader_id' AS bigint)
) AS led
WHERE d.batch_id = :batch_id AND d.kind = 'share' AND d.move = 'finish'
GROUP BY d.tier
