-- Per tenant: calls without an outcome, and their reservations.
SELECT b.tenant, count(*) AS calls, coalesce(sum(c.reserved_usd), 0) AS reserved_usd
FROM calls AS c
JOIN batches AS b ON b.id = c.batch_id
WHERE c.outcome IS NULL
GROUP BY b.tenant
