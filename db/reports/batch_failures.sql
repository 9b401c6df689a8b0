-- Why queries of a batch ended without an answer: the commonest last reasons.
SELECT q.state, coalesce(d.reason, 'no reason recorded') AS reason, count(*) AS queries,
       min(p.custom_id) AS example
FROM queries AS q
JOIN prompts AS p ON p.query_id = q.id
LEFT JOIN LATERAL (
    SELECT array_to_string(d.reasons, '; ') AS reason
    FROM decisions AS d
    WHERE d.query_id = q.id
    ORDER BY d.id DESC
    LIMIT 1
) AS d ON true
WHERE q.batch_id = :batch_id AND q.state IN ('failed', 'dead', 'expired')
GROUP BY 1, 2
ORDER BY queries DESC, 1, 2
LIMIT :rows
