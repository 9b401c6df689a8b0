-- A worker claims a decision that was taken for it: a message that comes twice, or late, finds another epoch.
UPDATE pilots SET epoch = epoch + 1, lease_until = now() + make_interval(secs => :lease_s)
WHERE batch_id = :batch_id AND state = 'deciding' AND epoch = :epoch
RETURNING epoch
