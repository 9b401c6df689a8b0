-- Of a tenant's newest 50 batches with a quality floor: those whose pilot has a query of the workload, the newest first.
SELECT b.id, b.public_id, b.source, b.created_at
FROM (SELECT b.* FROM pilots AS t JOIN batches AS b ON b.id = t.batch_id
      WHERE b.tenant = :tenant ORDER BY b.id DESC LIMIT 50) AS b
WHERE EXISTS (
    SELECT FROM queries AS q
    JOIN decisions AS d ON d.query_id = q.id AND d.kind = 'route' AND d.detail ->> 'workload' = :workload
    WHERE q.batch_id = b.id AND q.pilot)
ORDER BY b.id DESC
