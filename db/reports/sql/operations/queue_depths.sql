-- Per stage: waiting, running, batched and held queries, and the age of the oldest that waits, in seconds.
SELECT q.stage,
       count(*) FILTER (WHERE q.state = 'ready') AS ready,
       count(*) FILTER (WHERE q.state = 'queued') AS queued,
       count(*) FILTER (WHERE q.state = 'running') AS running,
       count(*) FILTER (WHERE q.state = 'batched') AS batched,
       count(*) FILTER (WHERE q.state = 'held') AS held,
       (extract(epoch FROM now() - min(q.moved_at) FILTER (WHERE q.state IN ('ready', 'queued'))))::double precision
           AS oldest_wait_s
FROM queries AS q
WHERE q.finished_at IS NULL
GROUP BY q.stage
ORDER BY q.stage
