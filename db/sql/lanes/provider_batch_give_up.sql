-- The queries of a provider batch are bought in another lane.
UPDATE provider_batches SET given_up_at = coalesce(given_up_at, now()) WHERE id = :id AND epoch = :epoch
