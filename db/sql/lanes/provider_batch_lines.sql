-- The open calls of a provider batch with the bodies of their queries, in order of id: what is uploaded.
SELECT c.id, CAST(p.body AS text) AS body, CAST(p.options AS text) AS options
FROM calls AS c
JOIN prompts AS p ON p.query_id = c.query_id
WHERE c.provider_batch_id = :id AND c.outcome IS NULL AND c.id > :after
ORDER BY c.id
LIMIT :most
