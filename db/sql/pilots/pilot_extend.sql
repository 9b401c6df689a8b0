-- The next queries of the sample are due, and the pilot is sampling again: those whose hash with the seed is smallest,
-- which is a uniform sample whatever the order of the file.
WITH pilot AS (
    UPDATE pilots SET state = 'sampling', lease_until = NULL, extensions = extensions + 1
    WHERE batch_id = :batch_id AND state = 'deciding' AND epoch = :epoch
    RETURNING batch_id, seed
),
sampled AS (
    SELECT q.id FROM pilot AS t
    JOIN queries AS q ON q.batch_id = t.batch_id AND q.state = 'ready' AND NOT q.pilot AND q.due_at = 'infinity'
    ORDER BY hashint8extended(q.id, t.seed), q.id LIMIT :sample
)
UPDATE queries AS q SET due_at = now(), pilot = true FROM sampled AS s WHERE q.id = s.id
