-- ready → queued at one stage, as many as there is room for, in turn across batches:
-- the first of each batch, then the second of each, so that ten queries never wait behind a million. A higher priority
-- goes first, so the room is shared among batches of the same: each priority has as many at hand as there is room for.
WITH open AS (
    SELECT b.id, b.priority, ceil(:room / (1.0 * count(*) OVER (PARTITION BY b.priority))) AS share
    FROM batches AS b
    WHERE b.ended_at IS NULL AND b.cancelled_at IS NULL AND b.paused_at IS NULL
      AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
      -- Not EXISTS: made a join, it would go through what is ready of other batches too.
      AND (SELECT true FROM queries AS q
           WHERE q.stage = :stage AND q.state = 'ready' AND q.batch_id = b.id AND q.due_at <= now()
           LIMIT 1)
),
due AS (
    SELECT o.priority, q.id, row_number() OVER (PARTITION BY o.id ORDER BY q.due_at, q.id) AS turn
    FROM open AS o
    CROSS JOIN LATERAL (
        SELECT w.id, w.due_at FROM queries AS w
        WHERE w.stage = :stage AND w.state = 'ready' AND w.batch_id = o.id AND w.due_at <= now()
        ORDER BY w.due_at, w.id
        LIMIT CAST(o.share AS bigint)
    ) AS q
),
chosen AS (SELECT id, priority, turn FROM due ORDER BY priority DESC, turn, id LIMIT :room),
queued AS (
    UPDATE queries AS q
    SET state = 'queued', moved_at = now()
    FROM chosen AS c
    -- The state is bound, not written: with the literal the planner may walk the index of all ready rows for each id.
    WHERE q.id = c.id AND q.stage = :stage AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, c.priority, c.turn
)
SELECT id FROM queued ORDER BY priority DESC, turn, id
