-- failed, dead and expired queries of a batch start again at the route stage, under another epoch, so that calls that
-- are still open can no longer move them. Followers follow on. Where a pilot is not decided yet, what it may still
-- sample waits for it again.
WITH again AS (
    UPDATE queries AS q
    SET state = 'ready', stage = 'route', moved_at = now(), finished_at = NULL,
        epoch = epoch + 1, crashes = 0, attempts = 0, escalations = 0, tier = NULL,
        due_at = CASE
            WHEN EXISTS (SELECT FROM followers AS f WHERE f.query_id = q.id) THEN timestamptz '9000-01-01'
            WHEN NOT q.pilot AND EXISTS (SELECT FROM pilots AS t WHERE t.batch_id = :batch_id AND t.state <> 'decided')
            AND NOT EXISTS (SELECT FROM prompts AS p
                            WHERE p.query_id = q.id AND coalesce(p.options ->> 'pin', 'auto') <> 'auto')
            THEN 'infinity' ELSE now() END
    WHERE batch_id = :batch_id AND state = ANY(CAST(:sources AS text[]))
    RETURNING id, batch_id, epoch
),
reopened AS (
    UPDATE batches AS b
    SET ended_at = NULL, cancelled_at = NULL, paused_at = NULL, pause_code = NULL, expires_at = NULL, measured_at = NULL
    FROM (SELECT * FROM batches WHERE id = :batch_id FOR UPDATE) AS was
    WHERE b.id = was.id AND EXISTS (SELECT 1 FROM again)
    RETURNING was.*
),
uncounted AS (  -- it is measured again at its end
    UPDATE tenants AS t SET stored_bytes = t.stored_bytes - r.prompt_bytes - r.answer_bytes
    FROM reopened AS r WHERE t.name = r.tenant AND r.measured_at IS NOT NULL
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT batch_id, id, epoch, 'resume', 'resume', 'route', 'route', 'ready', 'user',
           ARRAY['resume'], ARRAY['resumed: failed lines start again']
    FROM again
)
SELECT count(*) FROM again
