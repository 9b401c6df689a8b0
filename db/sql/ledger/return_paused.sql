-- queued → ready for the queries of paused batches, so that they take no place in the window of others: no worker claims
-- them until their batch goes on.
WITH waiting AS (
    -- OFFSET: only what is in the broker is read, not what is open of the batches.
    SELECT q.id FROM (SELECT id, batch_id FROM queries WHERE state = 'queued' OFFSET 0) AS q
    WHERE q.batch_id = ANY(CAST(:batch_ids AS bigint[]))
    LIMIT 10000
),
returned AS (
    UPDATE queries AS q SET state = 'ready', moved_at = now()
    FROM waiting AS w
    WHERE q.id = w.id AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, q.batch_id, q.epoch, q.stage
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT batch_id, id, epoch, 'pause', 'pause', stage, stage, 'ready', 'user', ARRAY['pause'],
           ARRAY['paused by the user']
    FROM returned
)
SELECT count(*) FROM returned
