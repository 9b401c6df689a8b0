-- Per tier: how many of the newest 20,000 labels of all tenants there are, and their mean grade, for the operator.
-- The newest label of an answer counts; answers that were sampled for their doubt are left out, as they bias the rate.
SELECT n.tier, count(*) AS total, avg(n.grade) AS grade
FROM (
    SELECT DISTINCT ON (l.query_id, l.tier) l.tier, l.grade
    FROM (SELECT * FROM labels WHERE source <> 'web-uncertain' ORDER BY id DESC LIMIT 20000) AS l
    ORDER BY l.query_id, l.tier, l.id DESC
) AS n
GROUP BY n.tier
