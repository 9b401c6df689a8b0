-- A worker without a place gives a step back that it has not claimed: it is due again.
UPDATE provider_batches SET lease_until = NULL WHERE id = :id AND epoch = :epoch AND state <> 'done'
