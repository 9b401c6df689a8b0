-- Claims waiting queries under a lease and, where a call is meant, commits its intent with the claim.
-- Raises the epoch: whoever claimed before can no longer move the query.
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS w (
        query_id bigint, stage text, call_id bigint, purpose text, tier text, deployment text,
        provider text, model text, reserved_usd numeric, price_version text)
),
claimed AS (
    UPDATE queries AS q
    SET state = 'running', epoch = q.epoch + 1, worker_id = :worker_id, moved_at = now(),
        lease_until = now() + make_interval(secs => :lease_s)
    FROM wanted AS w, batches AS b
    WHERE q.id = w.query_id
      AND b.id = q.batch_id AND b.cancelled_at IS NULL
      AND q.stage = w.stage
      AND q.state = ANY(CAST(:sources AS text[]))
      AND q.due_at <= now()
    RETURNING q.id, q.batch_id, q.epoch
),
intents AS (
    INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model,
                       worker_id, reserved_usd, price_version)
    SELECT w.call_id, c.batch_id, c.id, c.epoch, w.purpose, w.tier, w.deployment, w.provider, w.model,
           :worker_id, w.reserved_usd, w.price_version
    FROM claimed AS c
    JOIN wanted AS w ON w.query_id = c.id
    WHERE w.call_id IS NOT NULL
)
SELECT id, epoch, now() AS at FROM claimed
