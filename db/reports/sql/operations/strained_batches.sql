-- Labelled batches in which a budget lowered a query that waited at its tier, failed it, or left it held for good.
-- A budget lowers expensive draws of exploration rather than cheap ones: the draws that remain are biased.
SELECT DISTINCT d.batch_id AS id
FROM decisions AS d
JOIN queries AS q ON q.id = d.query_id
WHERE d.batch_id IN (SELECT DISTINCT batch_id FROM labels)
  AND d.kind = 'budget' AND d.from_stage <> 'route' AND d.to_stage <> 'fallback'
  AND (d.move = 'advance' OR q.state <> 'done')
