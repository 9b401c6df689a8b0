-- Pilots whose sample has ended are taken for a decision, under a lease: one that is not decided in time is taken again,
-- under another epoch.
UPDATE pilots AS t SET state = 'deciding', epoch = t.epoch + 1, lease_until = now() + make_interval(secs => :lease_s)
FROM batches AS b
WHERE b.id = t.batch_id AND b.ended_at IS NULL AND b.cancelled_at IS NULL AND b.paused_at IS NULL
  AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
  AND (t.state = 'sampling' OR (t.state = 'deciding' AND t.lease_until < now()))
  AND NOT EXISTS (
      SELECT 1 FROM queries AS q WHERE q.batch_id = t.batch_id AND q.finished_at IS NULL AND q.pilot)
RETURNING t.batch_id, t.epoch
