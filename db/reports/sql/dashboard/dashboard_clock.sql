-- The time by the clock of Postgres, which alone counts.
SELECT now() AS now
