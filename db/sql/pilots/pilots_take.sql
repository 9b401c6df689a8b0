-- Pilots whose sample has ended are taken for a decision, under a lease: one that is not decided in time is taken again,
-- under another epoch. Of a tenant :share are being decided at most, and fewer than the :places of the workers that
-- live; of all tenants, which take turns, twice the places.
WITH places AS (
    SELECT :places * greatest(count(*), 1) AS most FROM workers
    WHERE stopped_at IS NULL AND :stage = ANY(string_to_array(role, ' '))
),
open AS (
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
),
chosen AS (
    SELECT t.batch_id FROM turns AS t CROSS JOIN places AS p
    WHERE NOT t.is_leased AND t.turn <= least(:share, p.most - 1)
    ORDER BY t.turn, t.batch_id
    LIMIT (SELECT greatest(2 * p.most - (SELECT count(*) FROM turns WHERE is_leased), 0) FROM places AS p)
)
UPDATE pilots AS t SET state = 'deciding', epoch = t.epoch + 1, lease_until = now() + make_interval(secs => :lease_s)
FROM chosen AS c
WHERE t.batch_id = c.batch_id
  AND (t.state = 'sampling' OR t.state = 'deciding' AND t.lease_until < now())  -- else another feeder has taken it
RETURNING t.batch_id, t.epoch
