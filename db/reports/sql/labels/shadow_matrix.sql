-- Candidates beside the live router: how often each sent a query where, and how right the live answer was.
-- Explored queries are left out: they do not show the choice of the live router.
SELECT s.router, d.tier AS live, s.tier AS shadow, count(*) AS queries, count(l.grade) AS labelled,
       avg(l.grade) AS grade
FROM shadows AS s
JOIN LATERAL (
    SELECT tier, router FROM decisions WHERE query_id = s.query_id AND kind = 'route' ORDER BY id DESC LIMIT 1
) AS d ON true
LEFT JOIN answers AS a ON a.query_id = s.query_id
LEFT JOIN LATERAL (
    SELECT grade FROM labels
    WHERE query_id = s.query_id AND tier = a.tier AND source <> 'web-uncertain'
    ORDER BY id DESC LIMIT 1
) AS l ON true
WHERE d.router <> 'exploration'
  AND (CAST(:router AS text) IS NULL OR s.router = :router)
  AND (CAST(:batch_id AS bigint) IS NULL OR s.batch_id = :batch_id)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
