-- What was asked of a batch's pilot, and how large it and the batch are.
SELECT t.batch_id, t.floor, t.confidence, t.seed, t.max_queries, t.stops, t.audit_share, t.grader, t.state, t.extensions, b.total,
       (SELECT count(*) FROM queries AS q WHERE q.batch_id = t.batch_id AND q.pilot) AS sampled,
       (SELECT count(*) FROM queries AS q
        WHERE q.batch_id = t.batch_id AND q.state = 'ready' AND q.due_at = 'infinity') AS waiting
FROM pilots AS t JOIN batches AS b ON b.id = t.batch_id
WHERE t.batch_id = :batch_id
