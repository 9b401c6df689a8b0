-- The budgets of today and tomorrow for each tenant with an open batch.
INSERT INTO budgets (tenant, day, cap_usd)
SELECT DISTINCT b.tenant, CAST(now() AT TIME ZONE 'UTC' AS date) + ahead, CAST(:cap_usd AS numeric)
FROM batches AS b, generate_series(0, 1) AS ahead
WHERE b.ended_at IS NULL
ON CONFLICT (tenant, day) DO NOTHING
