-- Fails a batch that is not in the ledger; the webhooks of its tenant get the event.
WITH failed AS (
    UPDATE api_batches
    SET status = 'failed', errors = CAST(:errors AS jsonb), failed_at = now(), lease_until = NULL
    WHERE public_id = :public_id AND status = 'validating'
    RETURNING public_id, tenant
)
INSERT INTO webhook_messages (id, webhook_id, tenant, event, batch)
SELECT :event_id, w.id, w.tenant, 'batch.failed', f.public_id
FROM failed AS f JOIN webhooks AS w ON w.tenant = f.tenant AND 'batch.failed' = ANY(w.events) AND w.gone_at IS NULL
