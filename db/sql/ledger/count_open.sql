-- Open queries per batch.
SELECT q.batch_id, count(*) AS open
FROM queries AS q
WHERE q.batch_id = ANY(CAST(:batch_ids AS bigint[])) AND q.finished_at IS NULL
GROUP BY q.batch_id
