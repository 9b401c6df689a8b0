-- Stops messages to a webhook whose receiver is gone.
WITH stopped AS (UPDATE webhooks SET gone_at = now() WHERE id = :id RETURNING id, tenant)
UPDATE webhook_messages AS m SET due_at = NULL FROM stopped AS s
WHERE m.webhook_id = s.id AND m.tenant = s.tenant AND m.due_at IS NOT NULL
