-- What the tiers below have answered to a query since it was submitted or last resumed, in the order of the calls.
SELECT d.tier, d.confidence, d.detail, d.detail ->> 'source' AS source, c.mean_logprob,
       CAST(c.response AS text) AS response
FROM decisions AS d
JOIN calls AS c ON c.id = d.call_id AND c.query_id = d.query_id AND c.response IS NOT NULL
WHERE d.query_id = :query_id AND d.kind = 'judge'
  AND d.id > coalesce((SELECT max(r.id) FROM decisions AS r
                       WHERE r.query_id = :query_id AND r.kind = 'resume'), 0)
ORDER BY d.id
