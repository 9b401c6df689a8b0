-- Texts and routes of the queries of a batch that were routed, for those whose ids are in a range.
SELECT p.query_id, p.custom_id, CAST(p.body AS text) AS body, CAST(p.options AS text) AS options,
       r.tier, r.router, r.confidence, c.prompt_tokens, c.completion_tokens
FROM prompts AS p
CROSS JOIN LATERAL (
    SELECT d.tier, d.router, d.confidence FROM decisions AS d
    WHERE d.query_id = p.query_id AND d.kind = 'route'
    ORDER BY d.id DESC LIMIT 1
) AS r
LEFT JOIN answers AS a ON a.query_id = p.query_id
LEFT JOIN LATERAL (
    SELECT c.prompt_tokens, c.completion_tokens FROM calls AS c
    WHERE c.query_id = p.query_id AND c.id = a.call_id LIMIT 1
) AS c ON true
WHERE p.query_id BETWEEN :first AND :last AND p.batch_id = :batch_id
ORDER BY p.query_id
