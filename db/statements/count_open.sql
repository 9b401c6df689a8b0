-- How many queries of each batch have not ended.
SELECT q.batch_id, count(*) AS open
FROM queries AS q
WHERE q.batch_id = ANY(CAST(:batch_ids AS bigint[])) AND q.state IN ('held', 'queued', 'ready', 'running')
GROUP BY q.batch_id
