-- Queries that no provider batch can take are due at their tier at once.
UPDATE queries SET due_at = now(), moved_at = now()
WHERE id = ANY(CAST(:ids AS bigint[])) AND state = 'ready' AND due_at > now()
