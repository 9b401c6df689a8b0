-- The UTC days of calls that got a result since spend was last summed, at most 31 days back; and the moment of this look.
-- Five minutes are looked at twice: a transaction that began within them may have committed after the last look.
SELECT DISTINCT CAST(c.created_at AT TIME ZONE 'UTC' AS date) AS day, now() AS looked_at
FROM calls AS c
WHERE c.finished_at >= (
    SELECT greatest(max(s.summed_at) - interval '5 minutes', now() - interval '31 days') FROM spend_daily AS s)
