-- Per open batch and stage: what is ready, queued, running and held, and since when the oldest waits, in seconds.
-- Its cost goes with what is open, not with what there ever was: all of it is in partial indexes.
SELECT b.tenant, o.*
FROM (
    SELECT q.batch_id, q.stage,
           count(*) FILTER (WHERE q.state = 'ready') AS ready,
           count(*) FILTER (WHERE q.state = 'queued') AS queued,
           count(*) FILTER (WHERE q.state = 'running') AS running,
           count(*) FILTER (WHERE q.state = 'held') AS held,
           (extract(epoch FROM now() - min(q.moved_at) FILTER (WHERE q.state IN ('ready', 'queued'))))
               ::double precision AS oldest_wait_s
    FROM queries AS q
    WHERE q.finished_at IS NULL
    GROUP BY q.batch_id, q.stage
) AS o
JOIN batches AS b ON b.id = o.batch_id
