-- Answers of the tenant's newest batches that stand and have no label: the most doubtful first, or any.
-- Doubt is 1 where the judge held right and wrong for alike; an answer that nobody judged comes after all others.
WITH recent AS MATERIALIZED (  -- bounded: a page is no place to sort a million answers
    SELECT a.query_id, b.handle, a.tier, a.model, a.confidence
    FROM (
        SELECT * FROM batches WHERE tenant = :tenant AND purged_at IS NULL ORDER BY created_at DESC LIMIT 1000
    ) AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND q.state = 'done'
    JOIN answers AS a ON a.query_id = q.id
    ORDER BY b.created_at DESC, q.id DESC
    LIMIT 20000
),
picked AS (
    SELECT r.*, row_number() OVER (
        ORDER BY CASE WHEN :by_chance THEN 0 ELSE abs(r.confidence - 0.5) END NULLS LAST, md5(r.query_id::text)
    ) AS place
    FROM recent AS r
    WHERE NOT EXISTS (SELECT FROM labels AS l WHERE l.query_id = r.query_id AND l.tier = r.tier)
    ORDER BY place
    LIMIT :rows
)
SELECT k.handle AS batch_id, p.custom_id, k.tier, k.model, k.confidence, p.body, a.response
FROM picked AS k
JOIN prompts AS p ON p.query_id = k.query_id
JOIN answers AS a ON a.query_id = k.query_id
ORDER BY k.place
