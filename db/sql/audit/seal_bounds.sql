-- The first and the last decision of a batch. Asked of all decisions for their least id in that batch, the planner may
-- walk the key from the oldest decision there is until it meets one of it: OFFSET keeps it to those of the batch.
SELECT min(id) AS first, max(id) AS last
FROM (SELECT id FROM decisions WHERE batch_id = :batch_id OFFSET 0) AS d
