-- How long a baseline's answers are against those of each tier, by the queries of the batch that both answered.
--
-- A baseline is a tier, or a model. A query counts that climbed, was in a pilot, or was audited; of several answers there
-- the last one. `pairs` are such queries, `mean_tokens` those of all answers of the tier.
WITH price AS (
    SELECT * FROM unnest(CAST(:names AS text[]), CAST(:tiers AS text[]), CAST(:models AS text[])) AS p (name, tier, model)
),
c AS MATERIALIZED (
    SELECT id, query_id, tier, model, purpose, coalesce(completion_tokens, 0) AS completion_tokens
    FROM calls
    WHERE batch_id = :batch_id AND query_id IS NOT NULL AND outcome = 'ok'
      AND purpose IN ('answer', 'hedge', 'extend', 'audit')
),
there AS (
    SELECT DISTINCT ON (p.name, c.query_id) p.name, p.tier, p.model, c.query_id, c.completion_tokens
    FROM c
    JOIN price AS p ON c.tier = p.tier OR c.model = p.model
    ORDER BY p.name, c.query_id, c.id DESC
),
pair AS (
    SELECT t.name, c.tier, count(*) AS pairs,
           (sum(t.completion_tokens)::double precision / nullif(sum(c.completion_tokens), 0)) AS ratio
    FROM there AS t
    JOIN c ON c.query_id = t.query_id
    WHERE (c.tier = t.tier OR c.model = t.model) IS NOT TRUE
    GROUP BY t.name, c.tier
)
SELECT p.name, o.tier, o.mean_tokens, coalesce(pair.pairs, 0) AS pairs, coalesce(pair.ratio, 1) AS ratio
FROM price AS p
CROSS JOIN (
    SELECT tier, avg(completion_tokens)::double precision AS mean_tokens
    FROM c
    WHERE purpose <> 'audit'
    GROUP BY tier
) AS o
LEFT JOIN pair ON pair.name = p.name AND pair.tier = o.tier
