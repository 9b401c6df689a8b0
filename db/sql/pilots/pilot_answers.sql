-- Every answer of a pilot's queries after :after, one row per query and tier, in the order of the calls: text, verdict,
-- cost. Of :rows queries, as many as have :bytes of texts together, and at least one; a query without an answer has a row
-- without a tier.
WITH sampled AS (
    SELECT q.id, row_number() OVER in_order AS place, sum(said.bytes) OVER in_order AS bytes
    FROM (
        SELECT id FROM queries WHERE batch_id = :batch_id AND pilot AND id > :after ORDER BY id LIMIT :rows
    ) AS q
    CROSS JOIN LATERAL (
        SELECT sum(t.bytes) AS bytes
        FROM (
            SELECT p.bytes FROM prompts AS p WHERE p.query_id = q.id
            UNION ALL SELECT octet_length(CAST(a.response AS text)) FROM answers AS a WHERE a.query_id = q.id
            UNION ALL SELECT octet_length(CAST(c.response AS text)) FROM calls AS c WHERE c.query_id = q.id
        ) AS t
    ) AS said
    WINDOW in_order AS (ORDER BY q.id)
)
SELECT q.id AS query_id, p.custom_id, d.tier, d.confidence, d.detail, d.detail ->> 'source' AS source, d.mean_logprob,
       d.response, d.cost_usd, CAST(p.body AS text) AS body, CAST(p.options AS text) AS options
FROM sampled AS q
JOIN prompts AS p ON p.query_id = q.id
LEFT JOIN LATERAL (
    SELECT v.id, v.tier, v.confidence, v.detail, c.mean_logprob, c.cost_usd,
           CAST(coalesce(c.response, a.response) AS text) AS response
    FROM decisions AS v
    LEFT JOIN answers AS a ON a.query_id = v.query_id
    JOIN calls AS c ON c.query_id = v.query_id
        AND c.id = coalesce(v.call_id, CASE WHEN a.tier = v.tier THEN a.call_id END)
    WHERE v.query_id = q.id AND v.kind = 'judge'
) AS d ON true
WHERE q.place = 1 OR q.bytes <= :bytes
ORDER BY q.id, d.id
