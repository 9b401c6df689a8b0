-- Adds a webhook, unless the tenant has as many as it may.
INSERT INTO webhooks (id, tenant, name, url, events, secret)
SELECT :id, :tenant, :name, :url, CAST(:events AS text[]), :secret
WHERE (SELECT count(*) FROM webhooks WHERE tenant = :tenant) < :most
RETURNING id
