-- A tenant's file.
SELECT id, purpose, filename, bytes, content, batch, created_at, expires_at
FROM files
WHERE id = :id AND tenant = :tenant AND ready AND (expires_at IS NULL OR expires_at > now())
