-- Batches that still have open queries although they were cancelled, or their window closed.
SELECT id, cancelled_at IS NOT NULL AS cancelled
FROM batches
WHERE ended_at IS NULL AND (cancelled_at IS NOT NULL OR expires_at < now())
