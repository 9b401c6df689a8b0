-- Per tenant and tier: how many answers are labelled, and their mean grade.
-- The newest label of an answer counts; answers that were sampled for their doubt are left out, as they bias the rate.
SELECT b.tenant, n.tier, count(*) AS total, avg(n.grade) AS grade
FROM (
    SELECT DISTINCT ON (l.query_id, l.tier) l.batch_id, l.tier, l.grade
    FROM (SELECT * FROM labels WHERE source <> 'web-uncertain' ORDER BY id DESC LIMIT 20000) AS l
    ORDER BY l.query_id, l.tier, l.id DESC
) AS n
JOIN batches AS b ON b.id = n.batch_id
GROUP BY b.tenant, n.tier
