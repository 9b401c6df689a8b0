-- queued → ready for ids whose message could not be sent, or was given back unclaimed.
UPDATE queries
SET state = 'ready', moved_at = now(),
    -- Without a wait it keeps its place: a restart of its worker does not put it behind the whole backlog.
    due_at = CASE WHEN :wait_s > 0 THEN greatest(due_at, now() + make_interval(secs => :wait_s)) ELSE due_at END
WHERE id = ANY(CAST(:ids AS bigint[])) AND stage = :stage AND state = 'queued'
RETURNING id
