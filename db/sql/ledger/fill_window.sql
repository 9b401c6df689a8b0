-- ready → queued at one stage, as many as there is room for. Tenants take turns, and within a tenant its batches: the
-- first query of each, then the second of each, so that neither ten queries nor a tenant with one batch wait behind a
-- million, or behind a thousand chats. A batch of higher priority goes first; a chat goes first among what its tenant
-- has, and not before what others have. Each group that shares has as many at hand as there is room for.
WITH waiting AS (
    SELECT b.id, b.tenant, b.priority, b.source = '/v1/chat/completions' AS is_chat
    FROM batches AS b
    WHERE b.ended_at IS NULL AND b.cancelled_at IS NULL AND b.paused_at IS NULL
      -- What closes now holds its rows locked for seconds.
      AND (b.expires_at < now()) IS NOT TRUE
      AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
      -- Not EXISTS: made a join, it would go through what is ready of other batches too.
      AND (SELECT true FROM queries AS q
           WHERE q.stage = :stage AND q.state = 'ready' AND q.batch_id = b.id AND q.due_at <= now()
           LIMIT 1)
),
ranked AS (
    SELECT w.id, w.tenant, w.priority,
           CASE WHEN w.is_chat THEN greatest(max(w.priority) FILTER (WHERE NOT w.is_chat) OVER (), 0)
                ELSE w.priority END AS rank
    FROM waiting AS w
),
open AS (
    SELECT r.*, ceil(:room / (1.0 * count(*) OVER (PARTITION BY r.rank, r.tenant, r.priority) * c.tenants)) AS share
    FROM ranked AS r
    JOIN (SELECT rank, count(DISTINCT tenant) AS tenants FROM ranked GROUP BY rank) AS c ON c.rank = r.rank
),
due AS (
    SELECT o.rank, o.tenant, o.priority, q.id, row_number() OVER (PARTITION BY o.id ORDER BY q.due_at, q.id) AS turn
    FROM open AS o
    CROSS JOIN LATERAL (
        SELECT w.id, w.due_at FROM queries AS w
        WHERE w.stage = :stage AND w.state = 'ready' AND w.batch_id = o.id AND w.due_at <= now()
        ORDER BY w.due_at, w.id
        LIMIT CAST(o.share AS bigint)
    ) AS q
),
turns AS (
    SELECT d.id, d.rank, row_number() OVER (PARTITION BY d.rank, d.tenant ORDER BY d.priority DESC, d.turn, d.id) AS turn
    FROM due AS d
),
chosen AS (SELECT id, rank, turn FROM turns ORDER BY rank DESC, turn, id LIMIT :room),
queued AS (
    UPDATE queries AS q
    SET state = 'queued', moved_at = now()
    FROM chosen AS c
    -- The state is bound, not written: with the literal the planner may walk the index of all ready rows for each id.
    WHERE q.id = c.id AND q.stage = :stage AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, c.rank, c.turn
)
SELECT id FROM queued ORDER BY rank DESC, turn, id
