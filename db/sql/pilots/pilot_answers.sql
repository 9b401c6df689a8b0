-- Every answer of a pilot's queries, one row per query and tier, in the order of the calls: text, verdict, cost.
SELECT q.id AS query_id, p.custom_id, d.tier, d.confidence, d.detail, d.detail ->> 'source' AS source, c.mean_logprob,
       CAST(coalesce(c.response, a.response) AS text) AS response,
       c.cost_usd, CAST(p.body AS text) AS body, CAST(p.options AS text) AS options
FROM queries AS q
JOIN prompts AS p ON p.query_id = q.id
JOIN decisions AS d ON d.query_id = q.id AND d.kind = 'judge'
LEFT JOIN answers AS a ON a.query_id = q.id
JOIN calls AS c ON c.query_id = q.id AND c.id = coalesce(d.call_id, CASE WHEN a.tier = d.tier THEN a.call_id END)
WHERE q.batch_id = :batch_id AND q.pilot
ORDER BY q.id, d.id
