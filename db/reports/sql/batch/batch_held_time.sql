-- Seconds in which nothing of a batch moved until held queries were released: before each release, the time since the
-- decision before it.
SELECT coalesce(sum(extract(epoch FROM at - before)), 0)::double precision AS held_s
FROM (SELECT at, move, lag(at) OVER (ORDER BY at, id) AS before FROM decisions WHERE batch_id = :batch_id) AS d
WHERE move = 'unhold'
