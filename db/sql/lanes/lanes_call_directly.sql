-- Queries that wait for a wave at one tier are due at once, for direct calls in the lane flex or standard.
WITH chosen AS (
    SELECT q.id FROM queries AS q
    WHERE q.stage = :tier AND q.state = 'ready' AND q.batch_id = :batch_id
      AND q.due_at > now() + make_interval(secs => :margin_s) AND q.due_at < '9000-01-01'
    ORDER BY q.due_at, q.id
    LIMIT 20000
    FOR UPDATE SKIP LOCKED
),
due AS (
    UPDATE queries AS q
    SET due_at = now(), moved_at = now(), flex_tier = CASE WHEN :lane = 'flex' THEN CAST(:tier AS text) END
    FROM chosen AS c
    WHERE q.id = c.id AND q.state = 'ready'
    RETURNING q.id, q.batch_id, q.epoch, q.stage
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, codes,
                           reasons, detail)
    SELECT batch_id, id, epoch, 'lane', 'release', stage, stage, 'ready', stage, 'planner', ARRAY[:lane || '_lane'],
           ARRAY[CAST(:reason AS text)], jsonb_build_object('lane', CAST(:lane AS text))
    FROM due
)
SELECT count(*) AS queries FROM due
