-- The time by Postgres' clock, which alone counts.
SELECT now() AS now
