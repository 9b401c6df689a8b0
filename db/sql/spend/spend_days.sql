-- The UTC days of calls that got a result since spend was last summed, at most 31 days back, with the moment when the
-- oldest batch that has a call on the day was submitted; and the moment of this look.
-- Five minutes are looked at twice: a transaction that began within them may have committed after the last look.
SELECT d.day, d.since, d.until, b.oldest, now() AS looked_at
FROM (
    SELECT day, CAST(day AS timestamp) AT TIME ZONE 'UTC' AS since, CAST(day + 1 AS timestamp) AT TIME ZONE 'UTC' AS until
    FROM (
        SELECT DISTINCT CAST(c.created_at AT TIME ZONE 'UTC' AS date) AS day
        FROM calls AS c
        WHERE c.finished_at >= (
            SELECT greatest(max(s.summed_at) - interval '5 minutes', now() - interval '31 days') FROM spend_daily AS s)
    ) AS changed
) AS d
CROSS JOIN LATERAL (
    SELECT min(b.created_at) AS oldest
    FROM (
        SELECT DISTINCT c.batch_id FROM calls AS c
        WHERE c.finished_at >= d.since AND c.created_at >= d.since AND c.created_at < d.until
    ) AS c
    JOIN batches AS b ON b.id = c.batch_id
) AS b
ORDER BY d.day
