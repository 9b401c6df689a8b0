-- The first and the last decision of a batch. For the least id over all decisions, the planner may walk the key from
-- the oldest decision on until it meets one of the batch: OFFSET keeps it to those of the batch.
SELECT min(id) AS first, max(id) AS last
FROM (SELECT id FROM decisions WHERE batch_id = :batch_id OFFSET 0) AS d
