-- How right the labelled answers of a batch are, by tier, and which of them are the answers that stood.
-- The newest label of an answer counts; answers that were sampled for their doubt are left out, as they bias the rate.
SELECT n.tier, coalesce(a.tier = n.tier AND q.state = 'done', false) AS stood, count(*) AS labels, avg(n.grade) AS grade
FROM (
    SELECT DISTINCT ON (query_id, tier) query_id, tier, grade
    FROM labels
    WHERE batch_id = :batch_id AND source <> 'web-uncertain'
    ORDER BY query_id, tier, id DESC
) AS n
JOIN queries AS q ON q.id = n.query_id
LEFT JOIN answers AS a ON a.query_id = n.query_id
GROUP BY n.tier, stood
ORDER BY n.tier, stood
