-- The newest batches with their counts by outcome; chat completions are not listed.
WITH newest AS (
    SELECT * FROM batches WHERE source <> '/v1/chat/completions' ORDER BY id DESC LIMIT :rows
),
counted AS (
    SELECT q.batch_id,
           count(*) FILTER (WHERE q.state = 'done') AS done,
           count(*) FILTER (WHERE q.state IN ('failed', 'dead', 'expired')) AS failed,
           count(*) FILTER (WHERE q.state = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE q.finished_at IS NULL) AS open
    FROM newest AS n
    JOIN queries AS q ON q.id BETWEEN n.first_query_id AND n.last_query_id AND q.batch_id = n.id
    GROUP BY q.batch_id
)
SELECT n.public_id, n.source, n.tenant, n.total, n.simulated, n.created_at, n.cancelled_at, n.paused_at, n.ended_at,
       coalesce(c.done, 0) AS done, coalesce(c.failed, 0) AS failed, coalesce(c.cancelled, 0) AS cancelled,
       coalesce(c.open, 0) AS open
FROM newest AS n
LEFT JOIN counted AS c ON c.batch_id = n.id
ORDER BY n.id DESC
