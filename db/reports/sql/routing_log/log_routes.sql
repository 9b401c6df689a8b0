-- Outcomes of the routing of a batch, by router, tier, and tenth of the confidence.
-- A resumed query counts by its last decision. `stood`: answered at its first tier, and accepted by the judge.
-- Weights are inverse propensities, over the decisions with a random part; none if a budget lowered some, as it lowers
-- expensive draws rather than cheap ones.
WITH routed AS (
    SELECT DISTINCT ON (d.query_id) d.query_id, d.router, d.tier, d.confidence, d.propensity, d.detail
    FROM decisions AS d
    WHERE d.batch_id = :batch_id AND d.kind = 'route'
    ORDER BY d.query_id, d.id DESC
),
lowered AS (
    SELECT DISTINCT d.query_id FROM decisions AS d
    WHERE d.batch_id = :batch_id AND d.kind = 'budget' AND d.move = 'advance'
),
spent AS (
    SELECT c.query_id, sum(coalesce(c.cost_usd, c.reserved_usd)) AS usd
    FROM calls AS c
    WHERE c.batch_id = :batch_id AND c.query_id IS NOT NULL
    GROUP BY c.query_id
),
ended AS (
    SELECT r.query_id, r.tier, r.propensity, r.detail ->> 'version' AS version,
           CASE WHEN l.query_id IS NOT NULL THEN 'budget'
                WHEN r.router IN ('pin', 'rule', 'gate', 'ladder', 'prior', 'llm', 'exploration', 'budget', 'pilot',
                                  'quality_policy', 'none') THEN r.router
                ELSE 'classifier' END AS stage,
           CASE WHEN r.confidence IS NOT NULL
                THEN least(greatest(floor(r.confidence * 10), 0), 9)::integer END AS tenth,
           q.state = 'done' AS answered, q.escalations > 0 AND NOT q.pilot AS escalated, q.finished_at IS NULL AS open,
           r.propensity < 1 AND NOT EXISTS (SELECT FROM lowered) AS drawn,
           q.state = 'done' AND q.escalations = 0 AND a.accepted AND a.tier = r.tier AS stood,
           q.state = 'done' AND NOT a.accepted AS unaccepted, a.tier AS answer_tier,
           coalesce(s.usd, 0) AS usd
    FROM routed AS r
    JOIN queries AS q ON q.id = r.query_id
    LEFT JOIN answers AS a ON a.query_id = r.query_id
    LEFT JOIN lowered AS l ON l.query_id = r.query_id
    LEFT JOIN spent AS s ON s.query_id = r.query_id
)
SELECT stage, tier, version, tenth, answer_tier, count(*) AS queries,
       count(*) FILTER (WHERE answered) AS answered, count(*) FILTER (WHERE escalated) AS escalated,
       count(*) FILTER (WHERE stood) AS stood, count(*) FILTER (WHERE unaccepted) AS unaccepted,
       count(*) FILTER (WHERE open) AS open, sum(usd)::double precision AS cost_usd,
       coalesce(sum(1 / propensity) FILTER (WHERE drawn), 0)::double precision AS weight,
       coalesce(sum(1 / propensity) FILTER (WHERE drawn AND stood), 0)::double precision AS stood_weight
FROM ended
GROUP BY stage, tier, version, tenth, answer_tier
