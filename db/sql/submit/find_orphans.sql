-- Batches with fresh queries and no row: one step of the index per batch that waits to be routed.
WITH RECURSIVE met AS (
    (SELECT batch_id FROM queries WHERE state = 'ready' AND stage = 'route' ORDER BY batch_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.batch_id FROM queries AS q
            WHERE q.state = 'ready' AND q.stage = 'route' AND q.batch_id > m.batch_id
            ORDER BY q.batch_id LIMIT 1)
    FROM met AS m
    WHERE m.batch_id IS NOT NULL
)
SELECT batch_id FROM met
-- Not NOT EXISTS: made a join, it would read every batch there ever was.
WHERE batch_id IS NOT NULL AND (SELECT b.id FROM batches AS b WHERE b.id = met.batch_id) IS NULL
