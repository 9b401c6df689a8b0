-- What was asked of a batch's pilot, and how many queries it has sampled, wait for its decision, and are both together:
-- `total` leaves out what the policy has no say in, such as pinned queries.
SELECT t.batch_id, b.public_id, t.floor, t.confidence, t.seed, t.max_queries, t.stops, t.audit_share, t.grader, t.state,
       t.extensions, b.plan -> 'skipped_pilot' AS skipped, c.sampled, c.waiting, c.sampled + c.waiting AS total
FROM pilots AS t
JOIN batches AS b ON b.id = t.batch_id
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM queries AS q WHERE q.batch_id = t.batch_id AND q.pilot) AS sampled,
           (SELECT count(*) FROM queries AS q
            WHERE q.batch_id = t.batch_id AND q.state = 'ready' AND q.due_at = 'infinity') AS waiting) AS c
WHERE t.batch_id = :batch_id
