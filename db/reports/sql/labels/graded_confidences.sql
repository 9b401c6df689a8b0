-- The labelled answers of which a raw confidence is known: whose it is, by which source, of which workload, how right.
-- Of several labels for one answer the newest counts. Also what was asked because it was doubtful: among answers of one
-- confidence it is like the others.
WITH newest AS (
    SELECT DISTINCT ON (l.query_id, l.tier) l.query_id, l.tier, l.grade
    FROM labels AS l
    WHERE CAST(:batch_id AS bigint) IS NULL OR l.batch_id = CAST(:batch_id AS bigint)
    ORDER BY l.query_id, l.tier, l.id DESC
)
SELECT c.deployment, j.source,
       coalesce(p.options -> 'metadata' ->> 'workload', p.body -> 'metadata' ->> 'workload', '') AS workload,
       array_agg(j.raw ORDER BY n.query_id) AS raw, array_agg(n.grade ORDER BY n.query_id) AS grades
FROM newest AS n
JOIN LATERAL (
    SELECT d.call_id, d.detail ->> 'source' AS source,
           coalesce(CAST(d.detail ->> 'raw' AS double precision), d.confidence) AS raw
    FROM decisions AS d
    WHERE d.query_id = n.query_id AND d.kind = 'judge' AND d.tier = n.tier AND d.call_id IS NOT NULL
    ORDER BY d.id DESC LIMIT 1
) AS j ON j.raw IS NOT NULL AND j.source NOT IN ('none', 'scorer')
JOIN calls AS c ON c.id = j.call_id AND c.query_id = n.query_id
JOIN prompts AS p ON p.query_id = n.query_id
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
