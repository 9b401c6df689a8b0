-- Provider batches whose next step is due are taken under a lease: a step that is not done in time is taken again, under
-- another epoch. That of a batch that was closed meanwhile is due at once.
UPDATE provider_batches AS p
SET epoch = p.epoch + 1, lease_until = now() + make_interval(secs => :lease_s)
FROM batches AS b
WHERE p.state <> 'done' AND b.id = p.batch_id
  AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
  AND CASE WHEN p.lease_until IS NULL
           THEN p.due_at <= now() OR (p.state = 'submitted' AND (b.cancelled_at IS NOT NULL OR b.ended_at IS NOT NULL))
           -- While Postgres was away nobody could renew a lease.
           ELSE p.lease_until < now() AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s) END
RETURNING p.id, p.epoch
