-- Batches in which a budget moved, ended or kept at its tier one of a sample of earlier queries: what they cost is not what
-- their policy costs.
SELECT DISTINCT d.batch_id
FROM unnest(CAST(:query_ids AS bigint[])) AS q (id)
CROSS JOIN LATERAL (
    SELECT batch_id FROM decisions
    WHERE query_id = q.id AND codes && ARRAY['lowered', 'over_budget', 'budget_reserved']
      AND move IN ('advance', 'finish', 'fail')
    OFFSET 0  -- or all decisions of the batches would be read
) AS d
WHERE d.batch_id = ANY(CAST(:batch_ids AS bigint[]))
