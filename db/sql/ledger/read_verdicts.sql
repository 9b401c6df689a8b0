-- Verdicts on each query since it was submitted or last resumed, oldest first.
SELECT d.query_id, d.tier, d.confidence, d.call_id, d.codes, d.reasons, d.detail
FROM decisions AS d
WHERE d.query_id = ANY(CAST(:ids AS bigint[])) AND d.kind = 'judge'
  AND d.id > coalesce((SELECT max(r.id) FROM decisions AS r
                       WHERE r.query_id = d.query_id AND r.kind = 'resume'), 0)
ORDER BY d.id
