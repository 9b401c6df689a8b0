-- Batches with open queries that were cancelled, whose completion window has closed, or that are paused.
SELECT id, tenant, cancelled_at IS NOT NULL AS cancelled,
       cancelled_at IS NOT NULL OR (expires_at < now() AND paused_at IS NULL) IS TRUE AS closes
FROM batches
WHERE ended_at IS NULL AND (cancelled_at IS NOT NULL OR expires_at < now() OR paused_at IS NOT NULL)
