-- Commits the intent of a further call under a claim that still holds, and renews its lease.
-- A row without a query is a call that serves several (the LLM router).
WITH meant AS (
    SELECT * FROM jsonb_to_recordset(CAST(:meant AS jsonb)) AS m (
        call_id bigint, query_id bigint, batch_id bigint, epoch integer, purpose text, tier text,
        deployment text, provider text, model text, reserved_usd numeric, price_version text)
),
renewed AS (
    UPDATE queries AS q
    SET lease_until = now() + make_interval(secs => :lease_s)
    FROM meant AS m
    WHERE q.id = m.query_id AND q.epoch = m.epoch AND q.state = 'running'
    RETURNING q.id
)
INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model,
                   worker_id, reserved_usd, price_version)
SELECT m.call_id, m.batch_id, m.query_id, m.epoch, m.purpose, m.tier, m.deployment, m.provider, m.model,
       :worker_id, m.reserved_usd, m.price_version
FROM meant AS m
LEFT JOIN renewed AS r ON r.id = m.query_id
WHERE m.query_id IS NULL OR r.id IS NOT NULL
RETURNING id, created_at AS at
