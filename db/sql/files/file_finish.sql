-- Marks a file as complete, which is its time of creation: an upload may have taken hours.
UPDATE files
SET purpose = :purpose, filename = :filename, bytes = :size, ready = true, created_at = now(),
    expires_at = now() + make_interval(secs => CAST(:expires_after_s AS double precision))
WHERE id = :id
RETURNING id, purpose, filename, bytes, content, batch, created_at, expires_at
