-- The stored answers of rejected calls, for a fallback that accepts the best there was.
SELECT c.id, c.tier, c.model, CAST(c.response AS text) AS response
FROM calls AS c
WHERE c.id = ANY(CAST(:call_ids AS bigint[])) AND c.query_id = ANY(CAST(:query_ids AS bigint[]))
  AND c.response IS NOT NULL
