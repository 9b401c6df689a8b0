-- Batches that were resumed after their end get new files: all that are open again, and :public_id even if it has ended
-- again.
UPDATE api_batches AS a
SET finalized_at = NULL, counts = NULL, usage = NULL, cancelling_at = NULL, lease_until = NULL
FROM batches AS b
WHERE a.public_id = b.public_id AND a.finalized_at IS NOT NULL AND a.status = 'accepted'
  AND (b.ended_at IS NULL OR b.public_id = CAST(:public_id AS text) AND b.ended_at > a.finalized_at)
