-- A worker without a place gives a decision back that it has not claimed: it is due again.
UPDATE pilots SET state = 'sampling', lease_until = NULL
WHERE batch_id = :batch_id AND state = 'deciding' AND epoch = :epoch
