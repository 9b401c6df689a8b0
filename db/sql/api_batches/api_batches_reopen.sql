-- Batches that were resumed after they had ended get new files: those that are open again, and the
-- one of the public id where it has even ended again.
UPDATE api_batches AS a
SET finalized_at = NULL, counts = NULL, usage = NULL, cancelling_at = NULL, lease_until = NULL
FROM batches AS b
WHERE a.public_id = b.public_id AND a.finalized_at IS NOT NULL AND a.status = 'accepted'
  AND (b.ended_at IS NULL OR b.public_id = CAST(:public_id AS text) AND b.ended_at > a.finalized_at)
