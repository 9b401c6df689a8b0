-- Charges calls without a result in time at their reservation, with the outcome unknown. Calls of provider batches are
-- settled with their batch.
-- A late result still replaces this.
WITH stale AS (
    SELECT c.id, c.created_at, c.reserved_usd, c.budget_ids FROM calls AS c
    WHERE c.outcome IS NULL AND c.provider_batch_id IS NULL AND c.created_at < now() - make_interval(secs => :older_than_s)
      AND c.created_at > now() - interval '40 days'
      AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s)
    ORDER BY c.id
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
),
charged AS (
    UPDATE budgets AS g
    SET reserved_usd = g.reserved_usd - change.usd, settled_usd = g.settled_usd + change.usd
    FROM (
        SELECT g.id, sum(c.reserved_usd) AS usd
        FROM stale AS c
        JOIN budgets AS g ON g.id = ANY(c.budget_ids)
        GROUP BY g.id
    ) AS change
    WHERE g.id = change.id
)
UPDATE calls AS c
SET outcome = 'unknown', cost_usd = c.reserved_usd, finished_at = now()
FROM stale
WHERE c.id = stale.id AND c.created_at = stale.created_at
