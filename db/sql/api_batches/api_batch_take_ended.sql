-- Leases a batch that has ended and has no result files yet.
UPDATE api_batches
SET lease_until = now() + make_interval(secs => :lease_s)
WHERE public_id = (
    SELECT a.public_id FROM api_batches AS a JOIN batches AS b ON b.public_id = a.public_id
    WHERE a.status = 'accepted' AND a.finalized_at IS NULL AND b.ended_at IS NOT NULL
      AND a.tenant <> ALL(CAST(:not_of AS text[]))
      AND (a.lease_until IS NULL OR a.lease_until < now())
    ORDER BY a.created_at
    LIMIT 1
    FOR UPDATE OF a SKIP LOCKED)
RETURNING public_id, tenant
