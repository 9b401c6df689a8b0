-- Per stage: how many are in the broker, and how many are claimed.
SELECT stage, count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE state = 'running') AS running,
       min(moved_at) FILTER (WHERE state = 'queued') AS oldest_queued_at
FROM queries
WHERE state = 'queued' OR state = 'running'
GROUP BY stage
