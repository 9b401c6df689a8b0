-- Per tier: how many answers of a tenant are labelled, and their mean grade; of 20,000 labels at most, in its newest
-- thousand batches, and in the newest thousand that are no chat completions.
-- The newest label of an answer counts; answers that were sampled for their doubt are left out, as they bias the rate.
SELECT n.tier, count(*) AS total, avg(n.grade) AS grade
FROM (
    SELECT DISTINCT ON (l.query_id, l.tier) l.tier, l.grade
    FROM (
        SELECT w.* FROM (
            (SELECT id FROM batches WHERE tenant = :tenant ORDER BY created_at DESC LIMIT 1000)
            UNION
            (SELECT id FROM batches WHERE tenant = :tenant AND source <> '/v1/chat/completions'
             ORDER BY created_at DESC LIMIT 1000)
            ORDER BY id DESC
        ) AS b
        CROSS JOIN LATERAL (
            SELECT * FROM labels WHERE batch_id = b.id AND source <> 'web-uncertain' ORDER BY id DESC LIMIT 20000
        ) AS w
        LIMIT 20000
    ) AS l
    ORDER BY l.query_id, l.tier, l.id DESC
) AS n
GROUP BY n.tier
