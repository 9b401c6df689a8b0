-- A worker that still works at a provider batch says so.
UPDATE provider_batches SET lease_until = greatest(lease_until, now() + make_interval(secs => :lease_s))
WHERE id = :id AND epoch = :epoch AND state <> 'done'
RETURNING epoch
