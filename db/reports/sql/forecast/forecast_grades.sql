-- Per workload and shape: the queries of earlier pilots, of a sample of these batches, and what the `judge` was asked
-- about them: `pairs` of answers, each in each order, and its tokens, which the pairs of a call share.
--
-- Of pilots that another judge graded, or that the user had graded otherwise, nothing counts. A query of which nothing is
-- asked does: its answers said the same, or were compared as texts.
WITH graded AS MATERIALIZED (
    SELECT query_id, call_id, count(*) OVER (PARTITION BY call_id) AS in_call, batch_id
    FROM grades
    WHERE batch_id = ANY(CAST(:batch_ids AS bigint[]))
),
c AS MATERIALIZED (
    SELECT called.*
    FROM (SELECT DISTINCT call_id FROM graded) AS g
    CROSS JOIN LATERAL (
        SELECT id, batch_id, deployment, coalesce(prompt_tokens, 0) AS prompt_tokens,
               coalesce(completion_tokens, 0) AS completion_tokens
        FROM calls
        WHERE id = g.call_id AND outcome = 'ok'
        OFFSET 0  -- or all calls of the batches would be read
    ) AS called
),
asked AS (
    SELECT g.query_id, count(*) AS pairs, sum(c.prompt_tokens::double precision / g.in_call) AS prompt_tokens,
           sum(c.completion_tokens::double precision / g.in_call) AS completion_tokens
    FROM graded AS g
    JOIN c ON c.id = g.call_id
    GROUP BY g.query_id
)
SELECT coalesce(r.workload, '') AS workload, coalesce(r.shape, '') AS shape, count(*) AS queries,
       coalesce(sum(a.pairs), 0)::bigint AS pairs, coalesce(sum(a.prompt_tokens), 0)::double precision AS prompt_tokens,
       coalesce(sum(a.completion_tokens), 0)::double precision AS completion_tokens
FROM unnest(CAST(:query_ids AS bigint[])) AS sampled (id)
JOIN queries AS q ON q.id = sampled.id AND q.pilot AND q.state = 'done'
JOIN pilots AS p ON p.batch_id = q.batch_id AND p.state = 'decided' AND coalesce(p.grader, 'judge') = 'judge'
LEFT JOIN asked AS a ON a.query_id = q.id
LEFT JOIN LATERAL (
    SELECT d.detail ->> 'workload' AS workload, d.detail ->> 'shape' AS shape
    FROM decisions AS d
    WHERE d.query_id = q.id AND d.kind = 'route'
    ORDER BY d.id DESC
    LIMIT 1
) AS r ON true
WHERE p.batch_id = ANY(CAST(:batch_ids AS bigint[]))
  AND NOT EXISTS (SELECT FROM c WHERE c.batch_id = p.batch_id AND c.deployment <> ALL(CAST(:judges AS text[])))
GROUP BY 1, 2
