-- A page of a tenant's files, the oldest first.
SELECT id, purpose, filename, bytes, content, batch, created_at, expires_at
FROM files
WHERE tenant = :tenant AND ready AND (expires_at IS NULL OR expires_at > now())
  AND (CAST(:purpose AS text) IS NULL OR purpose = :purpose)
  AND (CAST(:after_id AS text) IS NULL
       OR (created_at, id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS text)))
ORDER BY created_at ASC, id ASC
LIMIT :rows
