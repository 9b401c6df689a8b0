-- Queries of decided pilots that are not due yet become so, about :most of a tenant at a time.
WITH waiting AS (
    SELECT t.batch_id, 1 + :most / count(*) OVER (PARTITION BY b.tenant) AS part
    FROM pilots AS t
    JOIN batches AS b ON b.id = t.batch_id AND b.ended_at IS NULL
    WHERE t.state = 'decided' AND NOT t.stops AND EXISTS (
        SELECT FROM queries AS w
        WHERE w.stage = :stage AND w.batch_id = t.batch_id AND w.state = 'ready' AND w.due_at = 'infinity')
),
chosen AS (
    SELECT q.id FROM waiting AS t
    JOIN LATERAL (
        SELECT w.id FROM queries AS w
        WHERE w.stage = :stage AND w.batch_id = t.batch_id AND w.state = 'ready' AND w.due_at = 'infinity'
        LIMIT t.part
    ) AS q ON true
)
UPDATE queries AS q SET due_at = now() FROM chosen AS c
WHERE q.id = c.id AND q.state = ANY(CAST(:sources AS text[])) AND q.due_at = 'infinity'
RETURNING q.id
