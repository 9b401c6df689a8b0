-- The metadata of a batch's sampled queries that could name their workloads: a key with 2 to 20 values, each in at least
-- five queries on average; the one with the fewest values.
SELECT m.key, count(DISTINCT m.value) AS values
FROM queries AS q
JOIN prompts AS p ON p.query_id = q.id
CROSS JOIN LATERAL json_each_text(p.options -> 'metadata') AS m
WHERE q.batch_id = :batch_id AND q.pilot AND m.key <> ALL(CAST(:but AS text[]))
GROUP BY m.key
HAVING count(DISTINCT m.value) BETWEEN 2 AND 20 AND count(*) >= 5 * count(DISTINCT m.value)
ORDER BY values, m.key
LIMIT 1
