-- workload_sums has nothing of the batch, which counts as summed now, or as of its end where audits may follow. Of two at
-- once, one waits for its row.
WITH summed AS (
    UPDATE batches
    SET summed_at = CASE WHEN now() < ended_at + interval '2 minutes' AND EXISTS (
                                  SELECT FROM pilots AS t WHERE t.batch_id = batches.id)
                         THEN ended_at ELSE now() END
    WHERE id = :batch_id
    RETURNING id
)
DELETE FROM workload_sums WHERE batch_id = (SELECT id FROM summed)
