-- Judged answers per tier, and how many of them were escalated, of a sample of earlier queries.
SELECT d.tier, count(*) AS judged, count(*) FILTER (WHERE d.move = 'advance') AS passed
FROM unnest(CAST(:query_ids AS bigint[])) AS q (id)
JOIN decisions AS d ON d.query_id = q.id
WHERE d.kind = 'judge' AND d.tier IS NOT NULL AND d.batch_id = ANY(CAST(:batch_ids AS bigint[]))
GROUP BY d.tier
