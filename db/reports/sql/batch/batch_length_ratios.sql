-- How long a baseline's answers are against those of each tier, by the queries of the batch that both answered.
--
-- A baseline is a tier, or a model. A query counts that was drawn at random, for a pilot or an audit; where fewer than
-- `least_pairs` were, those that climbed count as well, which are the doubtful ones. Of several answers there it is the
-- last one. `pairs` are such queries, `mean_tokens` those of all answers of the tier.
--
-- A row without a workload is of all queries; the others are of one workload and shape, as the first routing of a query
-- noted them, of which at least `least_pairs` were drawn at random.
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
    SELECT DISTINCT ON (p.name, c.query_id) p.name, p.tier, p.model, c.query_id, c.completion_tokens, c.purpose
    FROM c
    JOIN price AS p ON c.tier = p.tier OR c.model = p.model
    ORDER BY p.name, c.query_id, c.id DESC
),
both_answered AS (
    SELECT t.query_id, t.name, c.tier, t.completion_tokens AS there, c.completion_tokens AS here,
           q.pilot OR t.purpose = 'audit' AS is_random
    FROM there AS t
    JOIN queries AS q ON q.id = t.query_id
    JOIN c ON c.query_id = t.query_id
    WHERE (c.tier = t.tier OR c.model = t.model) IS NOT TRUE
),
pair AS (
    SELECT name, tier, count(*) AS pairs, sum(there)::double precision / nullif(sum(here), 0) AS ratio
    FROM (
        SELECT *, count(*) FILTER (WHERE is_random) OVER (PARTITION BY name, tier) AS random_pairs FROM both_answered
    ) AS b
    WHERE is_random OR random_pairs < :least_pairs
    GROUP BY name, tier
)
SELECT p.name, o.tier, NULL AS workload, NULL AS shape, o.mean_tokens, coalesce(pair.pairs, 0) AS pairs,
       coalesce(pair.ratio, 1) AS ratio
FROM price AS p
CROSS JOIN (
    SELECT tier, avg(completion_tokens)::double precision AS mean_tokens
    FROM c
    WHERE purpose <> 'audit'
    GROUP BY tier
) AS o
LEFT JOIN pair ON pair.name = p.name AND pair.tier = o.tier
UNION ALL
SELECT b.name, b.tier, r.workload, r.shape, NULL, count(*),
       coalesce(sum(b.there)::double precision / nullif(sum(b.here), 0), 1)
FROM both_answered AS b
CROSS JOIN LATERAL (
    SELECT coalesce(d.detail ->> 'workload', '') AS workload, coalesce(d.detail ->> 'shape', '') AS shape
    FROM decisions AS d
    WHERE d.query_id = b.query_id AND d.kind = 'route'
    ORDER BY d.id
    LIMIT 1
) AS r
WHERE b.is_random
GROUP BY b.name, b.tier, r.workload, r.shape
HAVING count(*) >= :least_pairs
