-- Queries of decided pilots that are not due yet become so, some at a time.
WITH chosen AS (
    SELECT q.id FROM pilots AS t
    JOIN batches AS b ON b.id = t.batch_id AND b.ended_at IS NULL
    JOIN LATERAL (
        SELECT w.id FROM queries AS w
        WHERE w.stage = :stage AND w.batch_id = t.batch_id AND w.state = 'ready' AND w.due_at = 'infinity'
        LIMIT :most
    ) AS q ON true
    WHERE t.state = 'decided' AND NOT t.stops
)
UPDATE queries AS q SET due_at = now() FROM chosen AS c
WHERE q.id = c.id AND q.state = ANY(CAST(:sources AS text[])) AND q.due_at = 'infinity'
RETURNING q.id
