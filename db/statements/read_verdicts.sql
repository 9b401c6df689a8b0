-- What was judged of each query so far, oldest first.
SELECT d.query_id, d.tier, d.confidence, d.call_id, d.reasons, d.detail
FROM decisions AS d
WHERE d.query_id = ANY(CAST(:ids AS bigint[])) AND d.kind = 'judge'
ORDER BY d.id
