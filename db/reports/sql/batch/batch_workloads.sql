-- What the queries of each workload of a batch came to. A query's workload is what its routing noted; '' is none. A
-- system prompt that one query alone has is not a workload.
-- Of several labels for an answer the newest counts; answers that were sampled for their doubt are left out.
-- Calls that serve several queries at once, those of routers, belong to no query and count nowhere here.
WITH noted AS (
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id DESC
),
named AS (
    SELECT query_id, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY workload) = 1 THEN ''
                          ELSE workload END AS workload
    FROM noted
),
spent AS (
    SELECT query_id, sum(coalesce(cost_usd, reserved_usd)) AS usd
    FROM calls
    WHERE batch_id = :batch_id AND query_id IS NOT NULL
    GROUP BY query_id
),
graded AS (
    SELECT DISTINCT ON (l.query_id) l.query_id, l.grade
    FROM labels AS l
    JOIN answers AS a ON a.query_id = l.query_id AND a.tier = l.tier
    WHERE l.batch_id = :batch_id AND l.source <> 'web-uncertain'
    ORDER BY l.query_id, l.id DESC
)
SELECT coalesce(n.workload, '') AS workload, count(*) AS queries, count(*) FILTER (WHERE q.state = 'done') AS answered,
       count(*) FILTER (WHERE q.escalations > 0) AS escalated, coalesce(sum(s.usd), 0) AS cost_usd,
       count(g.grade) AS labels, avg(g.grade) AS grade
FROM batches AS b
JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
LEFT JOIN named AS n ON n.query_id = q.id
LEFT JOIN spent AS s ON s.query_id = q.id
LEFT JOIN graded AS g ON g.query_id = q.id AND q.state = 'done'
WHERE b.id = :batch_id
GROUP BY 1
ORDER BY cost_usd DESC, workload
