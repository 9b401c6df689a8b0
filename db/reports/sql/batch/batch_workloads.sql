-- What the queries of each workload of a batch came to. A query's workload is what its routing noted; '' is none. A
-- system prompt that one query alone has is not a workload; of more than 100 the costliest keep their names, and the others
-- are counted under ''. What was not routed, asked or answered counts nowhere here.
-- Of several labels for an answer the newest counts; answers that were sampled for their doubt are left out.
-- Calls that serve several queries at once, those of routers, belong to no query and count nowhere here.
--
-- The parts are put together by one grouping: joins of parts that the planner takes for small, as it does until the
-- tables are analyzed, take the square of their rows.
WITH noted AS (
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id DESC
),
part AS (
    SELECT q.id AS query_id, q.state, q.escalations > 0 AND NOT q.pilot AS escalated, NULL AS workload,
           CAST(NULL AS numeric) AS usd, CAST(NULL AS double precision) AS grade
    FROM batches AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
    WHERE b.id = :batch_id
    UNION ALL
    SELECT query_id, NULL, NULL, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY workload) = 1 THEN ''
                                      ELSE workload END, NULL, NULL
    FROM noted
    UNION ALL
    SELECT query_id, NULL, NULL, NULL, coalesce(cost_usd, reserved_usd), NULL
    FROM calls
    WHERE batch_id = :batch_id AND query_id IS NOT NULL
    UNION ALL
    (SELECT DISTINCT ON (l.query_id) l.query_id, NULL, CAST(NULL AS boolean), NULL, CAST(NULL AS numeric), l.grade
     FROM labels AS l
     JOIN answers AS a ON a.query_id = l.query_id AND a.tier = l.tier
     WHERE l.batch_id = :batch_id AND l.source <> 'web-uncertain'
     ORDER BY l.query_id, l.id DESC)
),
whole AS (
    SELECT max(state) AS state, bool_or(escalated) AS escalated, max(workload) AS workload, sum(usd) AS usd,
           max(grade) AS grade
    FROM part
    GROUP BY query_id
),
costliest AS (
    SELECT workload FROM whole
    WHERE workload <> ''
    GROUP BY workload
    ORDER BY coalesce(sum(usd), 0) DESC, workload
    LIMIT 100
)
SELECT CASE WHEN workload IN (SELECT workload FROM costliest) THEN workload ELSE '' END AS workload, count(*) AS queries,
       count(*) FILTER (WHERE state = 'done') AS answered,
       count(*) FILTER (WHERE escalated) AS escalated, coalesce(sum(usd), 0) AS cost_usd,
       count(grade) FILTER (WHERE state = 'done') AS labels, avg(grade) FILTER (WHERE state = 'done') AS grade
FROM whole
WHERE workload IS NOT NULL OR usd IS NOT NULL OR state = 'done'
GROUP BY 1
ORDER BY cost_usd DESC, workload
