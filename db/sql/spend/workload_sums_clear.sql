-- workload_sums has nothing of the batch, which counts as summed now. Of two at once, one waits for its row.
WITH summed AS (
    UPDATE batches
    SET summed_at = CASE WHEN now() > ended_at + interval '2 minutes' THEN now() ELSE coalesce(ended_at, now()) END
    WHERE id = :batch_id
    RETURNING id
)
DELETE FROM workload_sums WHERE batch_id = (SELECT id FROM summed)
