-- Per tenant: calls without an outcome, and their reservations.
WITH open AS (
    SELECT batch_id, reserved_usd FROM calls WHERE outcome IS NULL AND provider_batch_id IS NULL
    UNION ALL
    SELECT c.batch_id, c.reserved_usd FROM provider_batches AS p
    JOIN calls AS c ON c.provider_batch_id = p.id AND c.outcome IS NULL
    WHERE p.state <> 'done'
)
SELECT b.tenant, count(*) AS calls, coalesce(sum(c.reserved_usd), 0) AS reserved_usd
FROM open AS c
JOIN batches AS b ON b.id = c.batch_id
GROUP BY b.tenant
