-- Per tenant and tier: how many answers are labelled, and how right they are on average, of the newest labels.
-- Of several labels for one answer the newest counts; what was asked because it was doubtful would flatter nobody.
SELECT b.tenant, n.tier, count(*) AS total, avg(n.grade) AS grade
FROM (
    SELECT DISTINCT ON (l.query_id, l.tier) l.batch_id, l.tier, l.grade
    FROM (SELECT * FROM labels WHERE source <> 'web-uncertain' ORDER BY id DESC LIMIT 20000) AS l
    ORDER BY l.query_id, l.tier, l.id DESC
) AS n
JOIN batches AS b ON b.id = n.batch_id
GROUP BY b.tenant, n.tier
