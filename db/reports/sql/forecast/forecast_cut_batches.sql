-- Batches that did not cost what their policy costs, by a sample of their queries: a budget moved, ended or kept at its
-- tier one of them, or more than the share `lost` of their cost is the maximum of calls whose cost is not confirmed, as
-- after an outage.
SELECT DISTINCT d.batch_id
FROM unnest(CAST(:query_ids AS bigint[])) AS q (id)
CROSS JOIN LATERAL (
    SELECT batch_id FROM decisions
    WHERE query_id = q.id AND codes && ARRAY['lowered', 'over_budget', 'budget_reserved']
      AND move IN ('advance', 'finish', 'fail')
    OFFSET 0  -- or all decisions of the batches would be read
) AS d
WHERE d.batch_id = ANY(CAST(:batch_ids AS bigint[]))
UNION
SELECT c.batch_id
FROM unnest(CAST(:query_ids AS bigint[])) AS q (id)
CROSS JOIN LATERAL (
    SELECT batch_id, cost_usd, outcome <> 'ok' AND cost_usd = reserved_usd AS is_unconfirmed
    FROM calls
    WHERE query_id = q.id AND outcome IS NOT NULL
    OFFSET 0  -- or all calls of the batches would be read
) AS c
WHERE c.batch_id = ANY(CAST(:batch_ids AS bigint[]))
GROUP BY c.batch_id
HAVING sum(c.cost_usd) FILTER (WHERE c.is_unconfirmed) > :lost * sum(c.cost_usd)
