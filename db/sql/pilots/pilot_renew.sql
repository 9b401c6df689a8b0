-- A worker that still decides says so, however long its grader takes.
UPDATE pilots SET lease_until = greatest(lease_until, now() + make_interval(secs => :lease_s))
WHERE batch_id = :batch_id AND state = 'deciding' AND epoch = :epoch
RETURNING epoch
