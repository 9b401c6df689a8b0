-- By workload, shape and tier of the `ladder`: what queries of a batch cost there, and how many `climbed` of those that `left`
-- it for an end or another tier, without a pilot's; and by stage the queries that are held for the budget. A system prompt
-- that one query alone has is no workload. Where fewer than `least_answers` others were asked at a tier, a pilot's queries
-- count for the cost.
--
-- A query gets its workload by a window, not by a join: see `batch_workloads`.
WITH routed AS (
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload,
           coalesce(detail ->> 'shape', '') AS shape
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id DESC
),
part AS (
    SELECT c.query_id, NULL AS workload, NULL AS shape, c.tier, false AS is_held, p.bytes, q.pilot, q.state,
           array_position(CAST(:ladder AS text[]), c.tier) AS rung,
           array_position(CAST(:ladder AS text[]), q.stage) AS stage_rung, sum(c.cost_usd) AS usd,
           sum(c.prompt_tokens) AS prompt_tokens, count(*) FILTER (WHERE is_answer) AS answers,
           sum(coalesce(c.completion_tokens, 0) - coalesce(c.reasoning_tokens, 0)) FILTER (WHERE is_answer) AS text_tokens,
           sum(coalesce(c.reasoning_tokens, 0)) FILTER (WHERE is_answer) AS reasoning_tokens
    FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id
    JOIN prompts AS p ON p.query_id = c.query_id
    CROSS JOIN LATERAL (
        SELECT c.outcome = 'ok' AND c.purpose IN ('answer', 'hedge', 'extend') AND c.completion_tokens IS NOT NULL AS is_answer
    ) AS of_call
    WHERE c.batch_id = :batch_id AND c.tier = ANY(CAST(:ladder AS text[])) AND c.purpose NOT IN ('route', 'audit', 'grade')
      AND c.cost_usd IS NOT NULL
    GROUP BY c.query_id, c.tier, p.bytes, q.pilot, q.state, q.stage
    UNION ALL
    SELECT q.id, NULL, NULL, q.stage, true, p.bytes, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM queries AS q
    JOIN prompts AS p ON p.query_id = q.id
    WHERE q.batch_id = :batch_id AND q.state = 'held' AND q.held_for IS NULL
    UNION ALL
    SELECT query_id, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY workload) = 1 THEN ''
                          ELSE workload END, shape, NULL, false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM routed
),
placed AS (
    SELECT coalesce(max(workload) OVER of_query, '') AS workload, coalesce(max(shape) OVER of_query, '') AS shape, tier, is_held,
           bytes, pilot, state, greatest(stage_rung, max(rung) OVER of_query) > rung AS has_climbed, usd, prompt_tokens,
           answers, text_tokens, reasoning_tokens
    FROM part
    WINDOW of_query AS (PARTITION BY query_id)
),
counted AS (
    SELECT *, NOT is_held AND (
               NOT pilot OR count(*) FILTER (WHERE NOT pilot) OVER (PARTITION BY workload, shape, tier) < :least_answers
           ) AS counts
    FROM placed
    WHERE tier IS NOT NULL
)
SELECT workload, shape, tier, count(*) FILTER (WHERE counts) AS asked,
       count(*) FILTER (WHERE NOT pilot AND (has_climbed OR state = 'done')) AS left,
       count(*) FILTER (WHERE NOT pilot AND has_climbed) AS climbed,
       coalesce(avg(usd) FILTER (WHERE counts), 0)::double precision AS usd,
       coalesce(stddev_samp(usd) FILTER (WHERE counts), 0)::double precision AS deviation_usd,
       coalesce(avg(bytes) FILTER (WHERE counts), 0)::double precision AS bytes,
       coalesce(avg(prompt_tokens) FILTER (WHERE counts), 0)::double precision AS prompt_tokens,
       coalesce(sum(text_tokens) / nullif(sum(answers), 0), 0)::double precision AS text_tokens,
       coalesce(sum(reasoning_tokens) / nullif(sum(answers), 0), 0)::double precision AS reasoning_tokens,
       coalesce(sum(answers), 0)::bigint AS answers, count(*) FILTER (WHERE is_held) AS held,
       coalesce(avg(bytes) FILTER (WHERE is_held), 0)::double precision AS held_bytes
FROM counted
GROUP BY workload, shape, tier
