-- Per given batch: queries that ended without an answer, by state.
SELECT batch_id, state, count(*) AS n
FROM queries
WHERE state IN ('cancelled', 'dead', 'expired', 'failed') AND batch_id = ANY(CAST(:batch_ids AS bigint[]))
GROUP BY batch_id, state
