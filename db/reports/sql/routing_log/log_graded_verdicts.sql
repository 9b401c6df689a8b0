-- Grades of labelled answers with a confidence, by its source and tenth.
-- Answers that were sampled for their doubt count too: among answers of one confidence they are like the others.
WITH newest AS (
    SELECT DISTINCT ON (l.query_id, l.tier) l.query_id, l.tier, l.grade
    FROM labels AS l
    WHERE l.batch_id = :batch_id
    ORDER BY l.query_id, l.tier, l.id DESC
)
SELECT coalesce(j.source, 'none') AS source, least(greatest(floor(j.confidence * 10), 0), 9)::integer AS tenth,
       count(*) AS labels, sum(n.grade) AS grade, sum(j.confidence) AS confidence
FROM newest AS n
JOIN LATERAL (
    SELECT d.confidence, d.detail ->> 'source' AS source FROM decisions AS d
    WHERE d.query_id = n.query_id AND d.kind = 'judge' AND d.tier = n.tier AND d.call_id IS NOT NULL
    ORDER BY d.id DESC LIMIT 1
) AS j ON j.confidence IS NOT NULL
GROUP BY 1, 2
