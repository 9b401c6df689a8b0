-- Open calls of a provider batch are settled without a result, at no cost or at their reservation: `most` of them where
-- that is given, the largest first. Where `only_gone`, those alone whose query no longer waits for it.
WITH open AS (
    SELECT c.id, c.created_at, c.reserved_usd, c.budget_ids FROM calls AS c
    WHERE c.provider_batch_id = :id AND c.outcome IS NULL
      AND EXISTS (SELECT FROM provider_batches AS p WHERE p.id = :id AND p.epoch = :epoch)
      AND (NOT :only_gone OR NOT EXISTS (
          SELECT FROM queries AS q
          WHERE q.id = c.query_id AND q.epoch = c.epoch AND q.stage = c.tier AND q.state = 'batched'))
    ORDER BY c.reserved_usd DESC, c.id
    LIMIT least(10000, CAST(:most AS bigint))
    FOR UPDATE
),
charged AS (
    UPDATE budgets AS g
    SET reserved_usd = g.reserved_usd - change.usd,
        settled_usd = g.settled_usd + CASE WHEN :is_billed THEN change.usd ELSE 0 END
    FROM (
        SELECT g.id, sum(c.reserved_usd) AS usd
        FROM open AS c
        JOIN budgets AS g ON g.id = ANY(c.budget_ids)
        GROUP BY g.id
    ) AS change
    WHERE g.id = change.id
),
settled AS (
    UPDATE calls AS c
    SET outcome = :outcome, cost_usd = CASE WHEN :is_billed THEN c.reserved_usd ELSE 0 END, finished_at = now(),
        cause = CAST(:cause AS text)
    FROM open
    WHERE c.id = open.id AND c.created_at = open.created_at
    RETURNING c.id
)
SELECT count(*) AS calls FROM settled
