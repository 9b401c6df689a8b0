-- What waits for a wave: of each open batch with a deadline, the tiers at which queries are `ready` but not due for long
-- (`margin_s` leaves out what a limit or a failure has put off), and what may still come to them.
SELECT b.id AS batch_id, b.tenant, b.deadline, extract(epoch FROM b.deadline - now())::double precision AS deadline_in_s,
       extract(epoch FROM now() - b.created_at)::double precision AS age_s,
       s.tier, w.queries, extract(epoch FROM now() - w.oldest)::double precision AS oldest_s,
       extract(epoch FROM now() - w.newest)::double precision AS newest_s,
       EXISTS (SELECT FROM queries AS q WHERE q.stage = :route AND q.state IN ('ready', 'queued', 'running')
               AND q.batch_id = b.id AND q.due_at <= now()) AS is_routing
FROM batches AS b
CROSS JOIN unnest(CAST(:tiers AS text[])) AS s (tier)
CROSS JOIN LATERAL (
    SELECT count(*) AS queries, min(q.moved_at) AS oldest, max(q.moved_at) AS newest FROM (
        SELECT w.moved_at FROM queries AS w
        WHERE w.stage = s.tier AND w.state = 'ready' AND w.batch_id = b.id
          AND w.due_at > now() + make_interval(secs => :margin_s) AND w.due_at < '9000-01-01'
        LIMIT :most
    ) AS q
) AS w
WHERE b.ended_at IS NULL AND b.cancelled_at IS NULL AND b.paused_at IS NULL AND b.deadline IS NOT NULL
  AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
  AND w.queries > 0
ORDER BY row_number() OVER (PARTITION BY b.tenant ORDER BY b.priority DESC, b.deadline, b.id, s.tier), b.priority DESC,
         b.deadline, b.id
