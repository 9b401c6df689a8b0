-- What queries of a batch cost at each tier of the `ladder`, and how many `climbed` of those that `left` it for an end or
-- another tier, without a pilot's. Where fewer than `least_answers` others were asked there, a pilot's queries count for the cost.
WITH asked AS (
    SELECT c.query_id, c.tier, q.pilot, q.state, array_position(CAST(:ladder AS text[]), c.tier) AS rung,
           array_position(CAST(:ladder AS text[]), q.stage) AS stage_rung, sum(c.cost_usd) AS usd
    FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id
    WHERE c.batch_id = :batch_id AND c.tier = ANY(CAST(:ladder AS text[])) AND c.purpose NOT IN ('route', 'audit')
      AND c.cost_usd IS NOT NULL
    GROUP BY c.query_id, c.tier, q.pilot, q.state, q.stage
),
placed AS (
    SELECT *, greatest(stage_rung, max(rung) OVER (PARTITION BY query_id)) > rung AS has_climbed FROM asked
)
SELECT tier, count(*) FILTER (WHERE NOT pilot AND (has_climbed OR state = 'done')) AS left,
       count(*) FILTER (WHERE NOT pilot AND has_climbed) AS climbed,
       CASE WHEN count(*) FILTER (WHERE NOT pilot) >= :least_answers THEN avg(usd) FILTER (WHERE NOT pilot) ELSE avg(usd) END
           ::double precision AS usd
FROM placed
GROUP BY tier
