-- Leases messages that are due for delivery.
UPDATE webhook_messages AS m
SET due_at = now() + make_interval(secs => :lease_s), tries = m.tries + 1
FROM webhooks AS w
WHERE w.id = m.webhook_id AND (m.id, m.webhook_id) IN (
    SELECT d.id, d.webhook_id FROM webhook_messages AS d
    WHERE d.due_at <= now()
    ORDER BY d.due_at
    LIMIT :rows
    FOR UPDATE SKIP LOCKED)
RETURNING m.id, m.webhook_id, w.url, w.secret, m.event, m.batch, m.created_at, m.tries,
          (SELECT b.traceparent FROM api_batches AS b WHERE b.public_id = m.batch) AS traceparent
