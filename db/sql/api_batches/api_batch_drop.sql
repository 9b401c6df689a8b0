-- Cancels a batch that is not in the ledger yet; the webhooks of its tenant get the event.
WITH dropped AS (
    UPDATE api_batches
    SET status = 'cancelled', finalized_at = now(), lease_until = NULL
    WHERE public_id = :public_id AND status = 'validating'
    RETURNING public_id, tenant
)
INSERT INTO webhook_messages (id, webhook_id, tenant, event, batch)
SELECT :event_id, w.id, w.tenant, 'batch.cancelled', d.public_id
FROM dropped AS d
JOIN webhooks AS w ON w.tenant = d.tenant AND 'batch.cancelled' = ANY(w.events) AND w.gone_at IS NULL
