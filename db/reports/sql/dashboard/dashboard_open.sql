-- Per open batch and stage: ready, queued, running, batched, held and waiting queries, and the age of the oldest, in
-- seconds.
-- The cost grows with the open queries, not with the history: partial indexes hold all of them.
SELECT b.tenant, o.*
FROM (
    SELECT w.batch_id, w.stage,
           -- What waits for the decision of a pilot is not work yet: workers are scaled by these figures.
           count(*) FILTER (WHERE w.state = 'ready' AND w.due_at < '9000-01-01' AND NOT w.awaits_wave) AS ready,
           count(*) FILTER (WHERE w.state = 'queued') AS queued,
           count(*) FILTER (WHERE w.state = 'running') AS running,
           -- In provider batches, or waiting for one.
           count(*) FILTER (WHERE w.state = 'batched' OR w.awaits_wave) AS batched,
           count(*) FILTER (WHERE w.state = 'held') AS held,
           -- For that decision, or as followers.
           count(*) FILTER (WHERE w.state = 'ready' AND w.due_at >= '9000-01-01') AS waiting,
           (extract(epoch FROM now() - min(w.moved_at) FILTER (
               WHERE w.state IN ('ready', 'queued') AND w.due_at < '9000-01-01' AND NOT w.awaits_wave)))
               ::double precision AS oldest_wait_s
    FROM (
        SELECT q.batch_id, q.stage, q.state, q.due_at, q.moved_at,
               q.state = 'ready' AND d.deadline IS NOT NULL AND q.due_at < '9000-01-01'
                   AND q.due_at > now() + interval '90 s' AS awaits_wave
        FROM queries AS q
        LEFT JOIN batches AS d ON d.id = q.batch_id
        WHERE q.finished_at IS NULL
    ) AS w
    GROUP BY w.batch_id, w.stage
) AS o
JOIN batches AS b ON b.id = o.batch_id
