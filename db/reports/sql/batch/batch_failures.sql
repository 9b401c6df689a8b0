-- Why queries of a batch ended without an answer: the most frequent last reasons.
SELECT q.state, coalesce(d.reason, 'no reason recorded') AS reason, count(*) AS queries,
       min(p.custom_id) AS example
FROM batches AS b
JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
JOIN prompts AS p ON p.query_id = q.id
LEFT JOIN LATERAL (
    -- A budget's further reasons are amounts, which are each query's own.
    SELECT CASE d.kind WHEN 'budget' THEN d.reasons[1] ELSE array_to_string(d.reasons, '; ') END AS reason
    FROM decisions AS d
    WHERE d.query_id = q.id
    ORDER BY d.id DESC
    LIMIT 1
) AS d ON true
WHERE b.id = :batch_id AND q.state IN ('failed', 'dead', 'expired')
GROUP BY 1, 2
ORDER BY queries DESC, 1, 2
LIMIT :rows
