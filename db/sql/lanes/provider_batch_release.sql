-- Queries that wait for a provider batch go back to `ready`, due in `wait_s`: until then another wave may take them. Their calls stay open,
-- for results that still come are billed.
WITH waiting AS (
    SELECT q.id, c.id AS call_id FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id AND q.epoch = c.epoch AND q.stage = c.tier AND q.state = 'batched'
    WHERE c.provider_batch_id = :id
      AND EXISTS (SELECT FROM provider_batches AS p WHERE p.id = :id AND p.epoch = :epoch)
    ORDER BY q.id
    LIMIT 10000
    FOR UPDATE OF q
),
released AS (
    UPDATE queries AS q SET state = 'ready', due_at = now() + make_interval(secs => :wait_s), moved_at = now()
    FROM waiting AS w WHERE q.id = w.id AND q.state = 'batched'
    RETURNING q.id, q.batch_id, q.epoch, q.stage, w.call_id
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, call_id,
                           codes, reasons, detail)
    SELECT batch_id, id, epoch, 'lane', 'release', stage, stage, 'ready', stage, 'planner', call_id,
           ARRAY[CAST(:code AS text)], ARRAY[CAST(:reason AS text)], CASE WHEN :wait_s = 0 THEN jsonb_build_object('lane', 'standard') END
    FROM released
)
SELECT count(*) AS queries FROM released
