-- A create is about to be sent: the lease lasts until it has surely arrived, or never will.
UPDATE provider_batches
SET lease_until = greatest(lease_until, now() + make_interval(secs => :request_s) + make_interval(secs => :margin_s)),
    arrives_by = now() + make_interval(secs => :request_s) + make_interval(secs => :margin_s)
WHERE id = :id AND epoch = :epoch AND state = 'creating'
RETURNING epoch
