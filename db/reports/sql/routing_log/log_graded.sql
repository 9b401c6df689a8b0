-- Grades of the labelled answers of a batch that stand, by router and first tier.
-- Answers that were sampled for their doubt are left out, as they bias the rate.
WITH newest AS (
    SELECT DISTINCT ON (l.query_id, l.tier) l.query_id, l.tier, l.grade
    FROM labels AS l
    WHERE l.batch_id = :batch_id AND l.source <> 'web-uncertain'
    ORDER BY l.query_id, l.tier, l.id DESC
)
SELECT CASE WHEN EXISTS (
                SELECT FROM decisions AS l
                WHERE l.query_id = n.query_id AND l.kind = 'budget' AND l.move = 'advance') THEN 'budget'
            WHEN r.router IN ('pin', 'rule', 'gate', 'ladder', 'prior', 'llm', 'exploration', 'budget', 'pilot',
                                  'quality_policy', 'none') THEN r.router
            ELSE 'classifier' END AS stage,
       r.tier, a.accepted, count(*) AS labels, sum(n.grade) AS grade
FROM newest AS n
JOIN answers AS a ON a.query_id = n.query_id AND a.tier = n.tier
JOIN LATERAL (
    SELECT d.router, d.tier FROM decisions AS d
    WHERE d.query_id = n.query_id AND d.kind = 'route'
    ORDER BY d.id DESC LIMIT 1
) AS r ON true
GROUP BY 1, 2, 3
