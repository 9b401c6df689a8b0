-- Per open batch and stage: ready, queued, running and held queries, and the age of the oldest, in seconds.
-- The cost grows with the open queries, not with the history: partial indexes hold all of them.
SELECT b.tenant, o.*
FROM (
    SELECT q.batch_id, q.stage,
           -- What waits for the decision of a pilot is no work yet: workers are scaled by these figures.
           count(*) FILTER (WHERE q.state = 'ready' AND q.due_at < '9000-01-01') AS ready,
           count(*) FILTER (WHERE q.state = 'queued') AS queued,
           count(*) FILTER (WHERE q.state = 'running') AS running,
           count(*) FILTER (WHERE q.state = 'held') AS held,
           (extract(epoch FROM now() - min(q.moved_at) FILTER (WHERE q.state IN ('ready', 'queued') AND q.due_at < '9000-01-01')))
               ::double precision AS oldest_wait_s
    FROM queries AS q
    WHERE q.finished_at IS NULL
    GROUP BY q.batch_id, q.stage
) AS o
JOIN batches AS b ON b.id = o.batch_id
