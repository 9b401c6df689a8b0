-- Why queries of a batch escalated: how many by the first reason of their first climb, the most frequent first. A sampled
-- query climbs on purpose and is not counted.
SELECT code, count(*) AS queries
FROM (
    SELECT DISTINCT ON (d.query_id) d.query_id, coalesce(d.codes[1], d.kind) AS code
    FROM decisions AS d
    JOIN queries AS q ON q.id = d.query_id AND q.escalations > 0 AND NOT q.pilot
    WHERE d.batch_id = :batch_id AND d.kind = 'fallback' AND d.move = 'advance'
    ORDER BY d.query_id, d.id
) AS climbed
GROUP BY code
ORDER BY queries DESC, code
