-- How long a baseline's answers are against those of each tier, by the queries of the batch that both answered.
--
-- A baseline is a tier, or a model. A query counts that was drawn at random, for a pilot or an audit; where fewer than
-- `least_pairs` were, those that climbed count as well, which are the doubtful ones. Of several answers there it is the
-- last one. `pairs` are such queries; of them, the means are of the tokens of a tier's text (`here`), of the baseline's
-- text (`there`) and of its reasoning, and the sums of squares and products of the tier's text (x) and all completion
-- tokens of the baseline (y). `mean_tokens` and `mean_reasoning` are of all answers of the tier.
--
-- A row without a workload is of all queries; the others are of one workload and shape, as the first routing of a query
-- noted them, with at least `least_pairs`. `are_random` says that no climb counts. `answers` are those of the tier.
WITH price AS (
    SELECT * FROM unnest(CAST(:names AS text[]), CAST(:tiers AS text[]), CAST(:models AS text[])) AS p (name, tier, model)
),
c AS MATERIALIZED (
    SELECT id, query_id, tier, model, purpose, coalesce(reasoning_tokens, 0) AS reasoning_tokens,
           coalesce(completion_tokens, 0) - coalesce(reasoning_tokens, 0) AS text_tokens
    FROM calls
    WHERE batch_id = :batch_id AND query_id IS NOT NULL AND outcome = 'ok'
      AND purpose IN ('answer', 'hedge', 'extend', 'audit')
),
there AS (
    SELECT DISTINCT ON (p.name, c.query_id) p.name, p.tier, p.model, c.query_id, c.text_tokens, c.reasoning_tokens, c.purpose
    FROM c
    JOIN price AS p ON c.tier = p.tier OR c.model = p.model
    ORDER BY p.name, c.query_id, c.id DESC
),
both_answered AS (
    SELECT t.query_id, t.name, c.tier, t.text_tokens AS there, t.reasoning_tokens AS reasoning, c.text_tokens AS here,
           q.pilot OR t.purpose = 'audit' AS is_random
    FROM there AS t
    JOIN queries AS q ON q.id = t.query_id
    JOIN c ON c.query_id = t.query_id
    WHERE (c.tier = t.tier OR c.model = t.model) IS NOT TRUE
),
chosen AS (
    SELECT b.*, r.workload, r.shape
    FROM (
        SELECT *, count(*) FILTER (WHERE is_random) OVER (PARTITION BY name, tier) >= :least_pairs AS are_random
        FROM both_answered
    ) AS b
    LEFT JOIN LATERAL (
        SELECT coalesce(d.detail ->> 'workload', '') AS workload, coalesce(d.detail ->> 'shape', '') AS shape
        FROM decisions AS d
        WHERE d.query_id = b.query_id AND d.kind = 'route'
        ORDER BY d.id
        LIMIT 1
    ) AS r ON true
    WHERE b.is_random OR NOT b.are_random
),
pair AS (
    SELECT name, tier, workload, shape, count(*) AS pairs, bool_and(are_random) AS are_random,
           avg(here)::double precision AS here, avg(there)::double precision AS there,
           avg(reasoning)::double precision AS reasoning, regr_sxx(there + reasoning, here) AS sxx,
           regr_sxy(there + reasoning, here) AS sxy, regr_syy(there + reasoning, here) AS syy
    FROM chosen
    GROUP BY GROUPING SETS ((name, tier), (name, tier, workload, shape))
    HAVING grouping(workload) = 1 OR workload IS NOT NULL AND count(*) >= :least_pairs
)
SELECT p.name, o.tier, NULL AS workload, NULL AS shape, o.answers, o.mean_tokens, o.mean_reasoning,
       coalesce(pair.pairs, 0) AS pairs, coalesce(pair.are_random, false) AS are_random, pair.here, pair.there,
       pair.reasoning, pair.sxx, pair.sxy, pair.syy
FROM price AS p
CROSS JOIN (
    SELECT tier, count(*) AS answers, avg(text_tokens)::double precision AS mean_tokens,
           avg(reasoning_tokens)::double precision AS mean_reasoning
    FROM c
    WHERE purpose <> 'audit'
    GROUP BY tier
) AS o
LEFT JOIN pair ON pair.name = p.name AND pair.tier = o.tier AND pair.workload IS NULL
UNION ALL
SELECT name, tier, workload, shape, NULL, NULL, NULL, pairs, are_random, here, there, reasoning, sxx, sxy, syy
FROM pair
WHERE workload IS NOT NULL
