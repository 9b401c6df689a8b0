-- A page of a tenant's webhooks, the newest first.
SELECT id, name, url, events, secret, created_at, updated_at
FROM webhooks
WHERE tenant = :tenant
  AND (CAST(:after_id AS text) IS NULL
       OR (created_at, id) < (CAST(:after_at AS timestamptz), CAST(:after_id AS text)))
ORDER BY created_at DESC, id DESC
LIMIT :rows
