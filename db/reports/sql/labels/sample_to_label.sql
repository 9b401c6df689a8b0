-- Answers of the tenant's newest batches that stand and have no label: by doubt, at random, or mixed, in turns.
-- Doubt is 1 where right and wrong were equally likely to the judge; an answer that was not judged comes last.
--
-- The random sample includes answers with a label by doubt only: without them, doubtful answers would be missing in it.
WITH recent AS MATERIALIZED (  -- bounded: a page is not a place to sort a million answers
    SELECT d.*, b.public_id, md5(d.query_id::text) AS lot
    FROM (
        SELECT * FROM batches WHERE tenant = :tenant AND purged_at IS NULL AND endpoint <> '/v1/embeddings'
        ORDER BY created_at DESC LIMIT 1000
    ) AS b
    -- Batch by batch until there are :most: joined, all answers there are would be read.
    CROSS JOIN LATERAL (
        SELECT a.query_id, a.call_id, a.tier, a.model, a.confidence
        FROM queries AS q
        JOIN answers AS a ON a.query_id = q.id
        WHERE q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND q.state = 'done'
        ORDER BY q.id DESC
        LIMIT CAST(:most AS bigint)
    ) AS d
    ORDER BY b.created_at DESC
    LIMIT CAST(:most AS bigint)
),
by_chance AS MATERIALIZED (
    SELECT r.*, 'chance' AS by, row_number() OVER (ORDER BY r.lot) AS place
    FROM recent AS r
    WHERE CAST(:by AS text) <> 'doubt' AND NOT EXISTS (
        SELECT FROM labels AS l WHERE l.query_id = r.query_id AND l.tier = r.tier AND l.source <> 'web-uncertain')
    ORDER BY place
    LIMIT CASE CAST(:by AS text) WHEN 'mixed' THEN (CAST(:rows AS integer) + 1) / 2 ELSE CAST(:rows AS integer) END
),
by_doubt AS (
    SELECT r.*, 'doubt' AS by, row_number() OVER (ORDER BY abs(r.confidence - 0.5) NULLS LAST, r.lot) AS place
    FROM recent AS r
    WHERE CAST(:by AS text) <> 'chance'
      AND NOT EXISTS (SELECT FROM labels AS l WHERE l.query_id = r.query_id AND l.tier = r.tier)
      AND NOT EXISTS (SELECT FROM by_chance AS c WHERE c.query_id = r.query_id)
    ORDER BY place
    LIMIT :rows
),
picked AS (
    SELECT * FROM by_chance UNION ALL SELECT * FROM by_doubt ORDER BY place, by LIMIT :rows
)
SELECT k.public_id AS batch_id, p.custom_id, k.tier, k.model, k.confidence, k.by, k.query_id, k.call_id
FROM picked AS k
JOIN prompts AS p ON p.query_id = k.query_id
ORDER BY k.place, k.by
