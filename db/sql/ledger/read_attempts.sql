-- The calls of queries at their present tier that gave no whole answer, oldest first: those that failed, and those whose
-- answer a learned cap cut off.
SELECT c.query_id, c.deployment, c.outcome, c.status, c.cause, c.param, c.created_at
FROM calls AS c
JOIN queries AS q ON q.id = c.query_id AND q.stage = c.tier
WHERE c.query_id = ANY(CAST(:ids AS bigint[])) AND c.purpose IN ('answer', 'embed', 'hedge', 'extend')
  AND (c.outcome <> 'ok' OR c.finish_reason = 'length')
ORDER BY c.id
