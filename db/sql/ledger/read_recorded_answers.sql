-- The last answer of each query that was recorded, with its text, and not judged: its worker was lost in between, and so
-- may have been those that took the query since. Each raised the epoch by one; a judged query is at another stage.
SELECT DISTINCT ON (c.query_id) c.query_id, c.id, c.created_at, c.deployment, c.reserved_usd, c.latency_ms,
       CAST(c.response AS text) AS response
FROM queries AS q
JOIN calls AS c ON c.query_id = q.id AND c.epoch > q.epoch - q.crashes AND c.tier = q.stage
WHERE q.id = ANY(CAST(:ids AS bigint[])) AND c.purpose IN ('answer', 'hedge', 'extend', 'repair')
  AND c.outcome = 'ok' AND c.response IS NOT NULL
ORDER BY c.query_id, c.id DESC
