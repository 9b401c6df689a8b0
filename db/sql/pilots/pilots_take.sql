-- Pilots whose sample has ended are taken for a decision, under a lease: one that is not decided in time is taken again,
-- under another epoch. Of a tenant :share are being decided at most.
WITH open AS (
    SELECT t.batch_id, b.tenant, t.state = 'deciding' AND t.lease_until >= now() AS is_leased
    FROM pilots AS t
    JOIN batches AS b ON b.id = t.batch_id AND b.ended_at IS NULL AND b.cancelled_at IS NULL AND b.paused_at IS NULL
        AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
    WHERE t.state IN ('sampling', 'deciding')
      AND NOT EXISTS (
          SELECT 1 FROM queries AS q WHERE q.batch_id = t.batch_id AND q.finished_at IS NULL AND q.pilot)
),
turns AS (
    SELECT o.*, row_number() OVER (PARTITION BY o.tenant ORDER BY o.is_leased DESC, o.batch_id) AS turn FROM open AS o
)
UPDATE pilots AS t SET state = 'deciding', epoch = t.epoch + 1, lease_until = now() + make_interval(secs => :lease_s)
FROM turns AS o
WHERE t.batch_id = o.batch_id AND NOT o.is_leased AND o.turn <= :share
  AND (t.state = 'sampling' OR t.state = 'deciding' AND t.lease_until < now())  -- else another feeder has taken it
RETURNING t.batch_id, t.epoch
