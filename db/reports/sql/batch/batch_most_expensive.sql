-- The queries of a batch with the highest cost of all their calls. The body of the prompt only on request.
WITH most_expensive AS (
    SELECT query_id, sum(coalesce(cost_usd, reserved_usd)) AS cost_usd, count(*) AS calls
    FROM calls
    WHERE batch_id = :batch_id AND query_id IS NOT NULL
    GROUP BY query_id
    ORDER BY cost_usd DESC, query_id
    LIMIT :rows
)
SELECT d.query_id, p.custom_id, q.state, coalesce(a.tier, q.tier) AS tier, a.model, a.confidence, a.accepted,
       q.escalations, d.calls, d.cost_usd,
       CASE WHEN CAST(:with_text AS boolean) THEN CAST(p.body AS text) END AS body
FROM most_expensive AS d
JOIN queries AS q ON q.id = d.query_id
JOIN prompts AS p ON p.query_id = d.query_id
LEFT JOIN answers AS a ON a.query_id = d.query_id AND q.state = 'done'
ORDER BY d.cost_usd DESC, d.query_id
