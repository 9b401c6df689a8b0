-- The paths of the queries of a batch: the router, the first tier, the last tier, and the outcome.
-- A resumed query is routed again: its first decision counts.
WITH first AS (
    SELECT DISTINCT ON (query_id) query_id, router, tier
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id
)
SELECT first.router, first.tier AS first_tier,
       CASE WHEN q.state = 'done' THEN coalesce(a.tier, q.tier) ELSE q.tier END AS last_tier,
       q.escalations > 0 AND NOT q.pilot AS escalated, q.state, a.accepted, count(*) AS queries
FROM batches AS b
JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
LEFT JOIN first ON first.query_id = q.id
LEFT JOIN answers AS a ON a.query_id = q.id AND q.state = 'done'
WHERE b.id = :batch_id
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY queries DESC, 1, 2, 3, 4, 5, 6
