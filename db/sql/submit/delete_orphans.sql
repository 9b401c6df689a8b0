-- Deletes some queries of a batch that has no row.
WITH few AS (
    SELECT id FROM queries
    WHERE stage = 'route' AND state = 'ready' AND batch_id = :batch_id
      AND NOT EXISTS (SELECT FROM batches WHERE id = :batch_id)
    LIMIT 10000
),
gone AS (DELETE FROM queries WHERE id = ANY(ARRAY(SELECT id FROM few)) RETURNING id)
SELECT count(*) FROM gone
