-- The answers of a batch with the least confidence: rejected ones first, then by confidence.
WITH doubtful AS (
    SELECT a.query_id, a.tier, a.model, a.confidence, a.accepted, q.state, q.escalations
    FROM batches AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND q.state = 'done'
    JOIN answers AS a ON a.query_id = q.id
    WHERE b.id = :batch_id AND (a.confidence IS NOT NULL OR NOT a.accepted)
    ORDER BY a.accepted, a.confidence, a.query_id
    LIMIT :rows
)
SELECT d.query_id, p.custom_id, d.state, d.tier, d.model, d.confidence, d.accepted, d.escalations,
       spent.calls, coalesce(spent.cost_usd, 0) AS cost_usd,
       CASE WHEN CAST(:with_text AS boolean) THEN CAST(p.body AS text) END AS body
FROM doubtful AS d
JOIN prompts AS p ON p.query_id = d.query_id
LEFT JOIN LATERAL (
    SELECT count(*) AS calls, sum(coalesce(c.cost_usd, c.reserved_usd)) AS cost_usd
    FROM calls AS c
    WHERE c.query_id = d.query_id
) AS spent ON true
ORDER BY d.accepted, d.confidence, d.query_id
