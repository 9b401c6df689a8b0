-- Unspent dollars per batch: the least of its own budget and its tenant's of today.
SELECT b.id, min(g.cap_usd - g.settled_usd) AS unspent_usd
FROM batches AS b
JOIN budgets AS g ON g.batch_id = b.id
    OR (g.tenant = b.tenant AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date))
WHERE b.id = ANY(CAST(:batch_ids AS bigint[]))
GROUP BY b.id
