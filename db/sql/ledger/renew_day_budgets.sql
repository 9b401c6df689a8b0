-- The budgets of today and tomorrow for each tenant with an open batch: its own limit, else that of the fleet, if any.
INSERT INTO budgets (tenant, day, cap_usd)
SELECT DISTINCT b.tenant, CAST(now() AT TIME ZONE 'UTC' AS date) + ahead, coalesce(t.day_usd, CAST(:cap_usd AS numeric))
FROM batches AS b
CROSS JOIN generate_series(0, 1) AS ahead
LEFT JOIN tenants AS t ON t.name = b.tenant
WHERE b.ended_at IS NULL AND coalesce(t.day_usd, CAST(:cap_usd AS numeric)) IS NOT NULL
ON CONFLICT (tenant, day) DO NOTHING
