-- Per UTC day of the label, tier, and what routed the query first: how many answers of a tenant's workload are labeled, and
-- the sum of their grades; among the tenant's newest 20,000 labels.
-- The newest label of an answer counts; answers that were sampled for their doubt are left out, as they bias the rate.
SELECT CAST(n.at AT TIME ZONE 'UTC' AS date) AS day, n.tier, w.router, w.version, count(*) AS labels, sum(n.grade) AS grades
FROM (
    SELECT DISTINCT ON (l.query_id, l.tier) l.query_id, l.tier, l.grade, l.at
    FROM (SELECT l.* FROM labels AS l JOIN batches AS b ON b.id = l.batch_id
          WHERE b.tenant = :tenant AND l.source <> 'web-uncertain' ORDER BY l.id DESC LIMIT 20000) AS l
    ORDER BY l.query_id, l.tier, l.id DESC
) AS n
JOIN LATERAL (
    SELECT d.detail ->> 'workload' AS workload, d.router, coalesce(d.detail ->> 'version', '') AS version
    FROM decisions AS d
    WHERE d.query_id = n.query_id AND d.kind = 'route' ORDER BY d.id LIMIT 1
) AS w ON w.workload = :workload
WHERE n.at >= now() - make_interval(days => CAST(:days AS integer))
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
