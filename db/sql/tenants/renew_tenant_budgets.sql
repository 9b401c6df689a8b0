-- Today's and tomorrow's budget of each tenant with a limit of its own, which precedes that of the fleet.
INSERT INTO budgets (tenant, day, cap_usd)
SELECT t.name, CAST(now() AT TIME ZONE 'UTC' AS date) + ahead, t.day_usd
FROM tenants AS t, generate_series(0, 1) AS ahead
WHERE t.day_usd IS NOT NULL
ON CONFLICT (tenant, day) DO UPDATE SET cap_usd = excluded.cap_usd
WHERE budgets.cap_usd <> excluded.cap_usd
