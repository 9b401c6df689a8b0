-- Why queries of a batch ended without an answer: the most frequent last reasons.
-- `over_budget` is the same in all rows: how many queries, of whatever reason, a budget of the batch or tenant had no
-- room for.
SELECT q.state, coalesce(d.reason, 'no reason recorded') AS reason, count(*) AS queries,
       min(p.custom_id) AS example,
       CAST(sum(count(*) FILTER (WHERE d.is_over_budget)) OVER () AS bigint) AS over_budget
FROM batches AS b
JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
JOIN prompts AS p ON p.query_id = q.id
LEFT JOIN LATERAL (
    -- A budget's further reasons are amounts, which are each query's own.
    SELECT CASE d.kind WHEN 'budget' THEN d.reasons[1] ELSE array_to_string(d.reasons, '; ') END AS reason,
           d.kind = 'budget' AND d.codes[1] = 'over_budget' AS is_over_budget
    FROM decisions AS d
    WHERE d.query_id = q.id
    ORDER BY d.id DESC
    LIMIT 1
) AS d ON true
WHERE b.id = :batch_id AND q.state IN ('failed', 'dead', 'expired')
GROUP BY 1, 2
ORDER BY queries DESC, 1, 2
LIMIT :rows
