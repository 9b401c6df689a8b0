-- Answers with a low confidence, beside the final answer to the query from another call,
-- for the queries of a batch whose ids are in a range.
SELECT d.confidence, coalesce(d.detail ->> 'source', 'none') AS source,
       CAST(c.response AS text) AS first, CAST(a.response AS text) AS second
FROM decisions AS d
JOIN calls AS c ON c.query_id = d.query_id AND c.id = d.call_id AND c.response IS NOT NULL
JOIN answers AS a ON a.query_id = d.query_id AND a.call_id <> d.call_id AND a.accepted
WHERE d.query_id BETWEEN :first AND :last AND d.batch_id = :batch_id
  AND d.kind = 'judge' AND d.confidence IS NOT NULL
  AND 'low_confidence' = ANY(d.codes)
ORDER BY d.id
