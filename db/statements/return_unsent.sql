-- queued → ready for ids whose message could not be sent, or was given back unclaimed.
UPDATE queries
SET state = 'ready', moved_at = now(), due_at = greatest(due_at, now() + make_interval(secs => :wait_s))
WHERE id = ANY(CAST(:ids AS bigint[])) AND stage = :stage AND state = 'queued'
RETURNING id
