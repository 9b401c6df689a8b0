-- By workload, shape and tier of the `ladder`: what queries of a batch cost there, and how many `climbed` of those that `left`
-- it for an end or another tier, without a pilot's; and by stage the queries that are held for the budget. A system prompt
-- that one query alone has is no workload. Where fewer than `least_answers` others were asked at a tier, a pilot's queries
-- count for the cost.
WITH routed AS (
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload,
           coalesce(detail ->> 'shape', '') AS shape
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id DESC
),
noted AS (
    SELECT query_id, shape, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY workload) = 1 THEN ''
                                 ELSE workload END AS workload
    FROM routed
),
asked AS (
    SELECT c.query_id, c.tier, q.pilot, q.state, array_position(CAST(:ladder AS text[]), c.tier) AS rung,
           array_position(CAST(:ladder AS text[]), q.stage) AS stage_rung, sum(c.cost_usd) AS usd,
           sum(c.prompt_tokens) AS prompt_tokens, count(*) FILTER (WHERE is_answer) AS answers,
           sum(coalesce(c.completion_tokens, 0) - coalesce(c.reasoning_tokens, 0)) FILTER (WHERE is_answer) AS text_tokens,
           sum(coalesce(c.reasoning_tokens, 0)) FILTER (WHERE is_answer) AS reasoning_tokens
    FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id
    CROSS JOIN LATERAL (
        SELECT c.outcome = 'ok' AND c.purpose IN ('answer', 'hedge', 'extend') AND c.completion_tokens IS NOT NULL AS is_answer
    ) AS of_call
    WHERE c.batch_id = :batch_id AND c.tier = ANY(CAST(:ladder AS text[])) AND c.purpose NOT IN ('route', 'audit', 'grade')
      AND c.cost_usd IS NOT NULL
    GROUP BY c.query_id, c.tier, q.pilot, q.state, q.stage
),
placed AS (
    SELECT a.*, greatest(stage_rung, max(rung) OVER (PARTITION BY a.query_id)) > rung AS has_climbed, p.bytes,
           coalesce(n.workload, '') AS workload, coalesce(n.shape, '') AS shape
    FROM asked AS a
    JOIN prompts AS p ON p.query_id = a.query_id
    LEFT JOIN noted AS n ON n.query_id = a.query_id
),
counted AS (
    SELECT *, NOT pilot OR count(*) FILTER (WHERE NOT pilot) OVER (PARTITION BY workload, shape, tier) < :least_answers AS counts
    FROM placed
),
cost AS (
    SELECT workload, shape, tier, count(*) FILTER (WHERE counts) AS asked,
           count(*) FILTER (WHERE NOT pilot AND (has_climbed OR state = 'done')) AS left,
           count(*) FILTER (WHERE NOT pilot AND has_climbed) AS climbed,
           avg(usd) FILTER (WHERE counts) AS usd, stddev_samp(usd) FILTER (WHERE counts) AS deviation_usd,
           avg(bytes) FILTER (WHERE counts) AS bytes, avg(prompt_tokens) FILTER (WHERE counts) AS prompt_tokens,
           sum(text_tokens) / nullif(sum(answers), 0) AS text_tokens,
           sum(reasoning_tokens) / nullif(sum(answers), 0) AS reasoning_tokens, sum(answers) AS answers
    FROM counted
    GROUP BY workload, shape, tier
),
held AS (
    SELECT coalesce(n.workload, '') AS workload, coalesce(n.shape, '') AS shape, q.stage AS tier, count(*) AS held,
           avg(p.bytes) AS held_bytes
    FROM queries AS q
    JOIN prompts AS p ON p.query_id = q.id
    LEFT JOIN noted AS n ON n.query_id = q.id
    WHERE q.batch_id = :batch_id AND q.state = 'held' AND q.held_for IS NULL
    GROUP BY 1, 2, 3
)
SELECT workload, shape, tier, coalesce(asked, 0) AS asked, coalesce(c.left, 0) AS left, coalesce(climbed, 0) AS climbed,
       coalesce(usd, 0)::double precision AS usd, coalesce(deviation_usd, 0)::double precision AS deviation_usd,
       coalesce(bytes, 0)::double precision AS bytes, coalesce(prompt_tokens, 0)::double precision AS prompt_tokens,
       coalesce(text_tokens, 0)::double precision AS text_tokens,
       coalesce(reasoning_tokens, 0)::double precision AS reasoning_tokens, coalesce(answers, 0)::bigint AS answers,
       coalesce(held, 0) AS held, coalesce(held_bytes, 0)::double precision AS held_bytes
FROM cost AS c
FULL JOIN held AS h USING (workload, shape, tier)
