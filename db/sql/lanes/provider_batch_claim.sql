-- A worker claims a step that was taken for it: a message that comes twice, or late, finds another epoch. Each move sets
-- `turns` to zero, so that it counts the workers that were lost at a step.
UPDATE provider_batches
SET epoch = epoch + 1, turns = turns + 1, lease_until = now() + make_interval(secs => :lease_s)
WHERE id = :id AND epoch = :epoch AND state <> 'done' AND lease_until IS NOT NULL
RETURNING epoch
