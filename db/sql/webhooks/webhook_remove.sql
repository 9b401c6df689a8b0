-- Removes a tenant's webhook, with its undelivered messages.
WITH gone AS (DELETE FROM webhooks WHERE id = :id AND tenant = :tenant RETURNING id, tenant),
unsent AS (
    DELETE FROM webhook_messages AS m USING gone
    WHERE m.webhook_id = gone.id AND m.tenant = gone.tenant AND m.due_at IS NOT NULL
)
SELECT id FROM gone
