-- A provider batch is waited for until then: its next look is no later.
UPDATE provider_batches
SET give_up_at = submitted_at + make_interval(secs => :give_up_s),
    due_at = least(due_at, submitted_at + make_interval(secs => :give_up_s)),
    verdict = coalesce(CAST(:verdict AS text), verdict)
WHERE id = :id AND state = :state
