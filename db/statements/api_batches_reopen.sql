-- Batches that were resumed after they had ended are open again, and get their files anew.
UPDATE api_batches AS a
SET finalized_at = NULL, counts = NULL, usage = NULL, cancelling_at = NULL, lease_until = NULL
FROM batches AS b
WHERE b.ended_at IS NULL AND a.handle = b.handle AND a.finalized_at IS NOT NULL AND a.status = 'accepted'
