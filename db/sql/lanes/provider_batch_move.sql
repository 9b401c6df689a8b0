-- A provider batch moves, under the epoch of who does its step; what is not given stays as it is. The lease is given up
-- where the next step has to wait.
UPDATE provider_batches SET
    state = :to_state,
    lease_until = CASE WHEN CAST(:wait_s AS double precision) IS NULL AND :to_state <> 'done'
                       THEN greatest(lease_until, now() + make_interval(secs => :lease_s)) END,
    due_at = now() + make_interval(secs => coalesce(CAST(:wait_s AS double precision), 0)),
    tries = :tries,
    turns = 0,
    file_id = CASE WHEN :to_state = 'formed' THEN NULL ELSE coalesce(CAST(:file_id AS text), file_id) END,
    remote_id = coalesce(CAST(:remote_id AS text), remote_id),
    outcome = coalesce(CAST(:outcome AS text), outcome),
    cause = coalesce(CAST(:cause AS text), cause),
    creating_at = CASE WHEN :to_state = 'creating' AND state <> 'creating' THEN now() ELSE creating_at END,
    submitted_at = CASE WHEN :to_state = 'submitted' THEN coalesce(submitted_at, now()) ELSE submitted_at END,
    -- A create that failed, or that another worker takes over after its lease, is no longer on its way.
    arrives_by = CASE WHEN arrives_by > now() THEN now() ELSE arrives_by END,
    -- How long the end is waited for is planned anew.
    give_up_at = CASE WHEN :to_state = 'cancelling' AND state <> 'cancelling' THEN NULL ELSE give_up_at END,
    cancelling_at = CASE WHEN :to_state = 'cancelling' THEN coalesce(cancelling_at, now()) ELSE cancelling_at END,
    ended_at = CASE WHEN :to_state = 'collecting' THEN coalesce(ended_at, now()) ELSE ended_at END,
    done_at = CASE WHEN :to_state = 'done' THEN now() END
WHERE id = :id AND epoch = :epoch AND (state = ANY(CAST(:sources AS text[])) OR state = :to_state AND state <> 'done')
RETURNING id
