-- Corrections and repairs of a batch by workload and tier: answers that were corrected, repairs and what they cost, how
-- many of their answers stood, and the calls of the workload at other tiers, by which a climb is priced.
WITH noted AS (
    SELECT DISTINCT ON (query_id) query_id, coalesce(detail ->> 'workload', '') AS workload
    FROM decisions
    WHERE batch_id = :batch_id AND kind = 'route'
    ORDER BY query_id, id DESC
),
judged AS MATERIALIZED (
    SELECT n.workload, d.tier, d.query_id, d.call_id, d.move, 'corrected' = ANY(d.codes) AS is_corrected,
           'repaired' = ANY(d.codes) AS is_repaired
    FROM decisions AS d
    JOIN noted AS n ON n.query_id = d.query_id
    WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.codes && ARRAY['corrected', 'repaired']
),
called AS (
    SELECT n.workload, c.tier, count(*) AS calls, sum(c.cost_usd) AS usd
    FROM calls AS c
    JOIN noted AS n ON n.query_id = c.query_id
    WHERE c.batch_id = :batch_id AND c.purpose = 'answer' AND c.outcome = 'ok' AND EXISTS (SELECT FROM judged)
    GROUP BY n.workload, c.tier
)
SELECT j.workload, j.tier, count(*) FILTER (WHERE j.is_corrected) AS corrected,
       count(*) FILTER (WHERE j.is_repaired) AS repaired,
       count(*) FILTER (WHERE j.is_repaired AND j.move = 'finish') AS stood,
       (coalesce(sum(c.cost_usd) FILTER (WHERE j.is_repaired), 0))::double precision AS repair_usd,
       coalesce((SELECT sum(o.calls) FROM called AS o WHERE o.workload = j.workload AND o.tier <> j.tier), 0)::bigint
           AS climbs,
       coalesce((SELECT sum(o.usd) FROM called AS o WHERE o.workload = j.workload AND o.tier <> j.tier), 0)
           ::double precision AS climb_usd
FROM judged AS j
LEFT JOIN calls AS c ON c.id = j.call_id AND c.batch_id = :batch_id AND c.purpose = 'repair'
GROUP BY j.workload, j.tier
ORDER BY j.workload, j.tier
