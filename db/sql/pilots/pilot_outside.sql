-- Sampled queries that are not among those with an answer of the top tier, and how many of them have a max_cost_usd.
SELECT count(*) AS queries, count(*) FILTER (WHERE p.options ->> 'max_cost_usd' IS NOT NULL) AS capped
FROM queries AS q
JOIN prompts AS p ON p.query_id = q.id
WHERE q.batch_id = :batch_id AND q.pilot AND q.id <> ALL(CAST(:sample AS bigint[]))
