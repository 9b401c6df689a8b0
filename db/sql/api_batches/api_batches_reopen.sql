-- Batches that were resumed after they had ended get their files anew: those that are open again, and the
-- one of the handle where it has even ended again.
UPDATE api_batches AS a
SET finalized_at = NULL, counts = NULL, usage = NULL, cancelling_at = NULL, lease_until = NULL
FROM batches AS b
WHERE a.handle = b.handle AND a.finalized_at IS NOT NULL AND a.status = 'accepted'
  AND (b.ended_at IS NULL OR b.handle = CAST(:handle AS text) AND b.ended_at > a.finalized_at)
