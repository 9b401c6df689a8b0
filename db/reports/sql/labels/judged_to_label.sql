-- Answers of judged pairs of the tenant's newest pilots that have no label yet: both answers of a question in a row,
-- blind: without model and confidence.
WITH offered AS MATERIALIZED (
    SELECT b.public_id, b.created_at, pair.query_id, pair.tier, pair.reference
    FROM (
        SELECT * FROM batches WHERE tenant = :tenant AND purged_at IS NULL ORDER BY created_at DESC LIMIT 1000
    ) AS b
    JOIN pilots AS t ON t.batch_id = b.id
    CROSS JOIN LATERAL jsonb_to_recordset(t.certificate -> 'judge' -> 'to_label')
        AS pair (query_id bigint, tier text, reference text)
),
waiting AS (
    SELECT o.public_id, o.created_at, o.query_id, side.tier
    FROM offered AS o
    CROSS JOIN LATERAL (VALUES (o.tier), (o.reference)) AS side (tier)
    WHERE side.tier IS NOT NULL
      AND NOT EXISTS (SELECT FROM labels AS l WHERE l.query_id = o.query_id AND l.tier = side.tier)
    GROUP BY o.public_id, o.created_at, o.query_id, side.tier
    ORDER BY o.created_at DESC, md5(o.query_id::text), md5(side.tier || o.query_id::text)
    LIMIT :rows
)
SELECT w.public_id AS batch_id, p.custom_id, w.tier, NULL AS model, NULL AS confidence, 'judged' AS by,
       w.query_id, said.call_id
FROM waiting AS w
JOIN prompts AS p ON p.query_id = w.query_id
CROSS JOIN LATERAL (  -- the answer that the judge saw
    SELECT c.id AS call_id, coalesce(c.response, a.response) IS NOT NULL AS has_text
    FROM decisions AS d
    LEFT JOIN answers AS a ON a.query_id = d.query_id AND a.tier = d.tier
    JOIN calls AS c ON c.query_id = d.query_id AND c.id = coalesce(d.call_id, a.call_id)
    WHERE d.query_id = w.query_id AND d.tier = w.tier AND d.kind = 'judge'
    ORDER BY d.id DESC
    LIMIT 1
) AS said
WHERE said.has_text
ORDER BY w.created_at DESC, md5(w.query_id::text), md5(w.tier || w.query_id::text)
