-- The stored answers of rejected calls, for a fallback that accepts the best there was: with their texts as far as :bytes
-- go, and at least one; others have no response.
SELECT c.id, c.tier, c.model,
       CASE WHEN row_number() OVER by_id = 1
                 OR sum(octet_length(CAST(c.response AS text))) OVER by_id <= CAST(:bytes AS bigint)
            THEN CAST(c.response AS text) END AS response
FROM calls AS c
WHERE c.id = ANY(CAST(:call_ids AS bigint[])) AND c.query_id = ANY(CAST(:query_ids AS bigint[]))
  AND c.response IS NOT NULL
WINDOW by_id AS (ORDER BY c.id)
