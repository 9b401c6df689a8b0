-- Leases messages that are due for delivery: of each tenant its share at most, the first of each before the second of any.
-- By tenant, so that of a tenant's many messages no more are read than its share.
WITH shares AS (
    SELECT c.id, c.webhook_id, c.due_at,
           row_number() OVER (PARTITION BY c.tenant ORDER BY c.due_at, c.id, c.webhook_id) AS place
    FROM (SELECT DISTINCT tenant FROM webhooks) AS t
    LEFT JOIN unnest(CAST(:tenants AS text[]), CAST(:counts AS integer[])) AS u (tenant, under_way) USING (tenant)
    CROSS JOIN LATERAL (
        SELECT d.id, d.webhook_id, d.due_at, d.tenant
        FROM webhook_messages AS d JOIN webhooks AS w ON w.id = d.webhook_id
        WHERE d.tenant = t.tenant AND d.due_at <= now()
        ORDER BY d.due_at, d.id, d.webhook_id
        LIMIT greatest(:share - coalesce(u.under_way, 0), 0)
    ) AS c
    ORDER BY place, c.due_at
    LIMIT :rows
), taken AS (
    SELECT d.id, d.webhook_id FROM webhook_messages AS d JOIN shares AS s USING (id, webhook_id)
    WHERE d.due_at <= now()
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE webhook_messages AS m
SET due_at = now() + make_interval(secs => :lease_s), tries = m.tries + 1
FROM webhooks AS w, taken AS t
WHERE w.id = m.webhook_id AND t.id = m.id AND t.webhook_id = m.webhook_id
RETURNING m.id, m.webhook_id, w.tenant, w.url, w.secret, m.event, m.batch, m.created_at, m.tries,
          (SELECT b.traceparent FROM api_batches AS b WHERE b.public_id = m.batch) AS traceparent
