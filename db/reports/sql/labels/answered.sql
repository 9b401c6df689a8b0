-- Queries of a batch by their custom ids: which tiers answered them, and whose answer stood.
SELECT p.query_id, p.custom_id, a.tier AS stood, asked.tiers
FROM prompts AS p
LEFT JOIN answers AS a ON a.query_id = p.query_id
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(DISTINCT c.tier), '{}') AS tiers
    FROM calls AS c
    WHERE c.query_id = p.query_id AND c.purpose IN ('answer', 'hedge', 'extend') AND c.outcome = 'ok'
) AS asked
WHERE p.batch_id = :batch_id AND p.custom_id = ANY(:custom_ids)
