-- Batches with open queries that were cancelled, or whose completion window has closed.
SELECT id, cancelled_at IS NOT NULL AS cancelled
FROM batches
WHERE ended_at IS NULL AND (cancelled_at IS NOT NULL OR expires_at < now())
