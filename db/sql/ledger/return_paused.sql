-- queued → ready for the queries of paused batches, so that they take no place in the window of others: no worker claims
-- them until their batch goes on. Each has a new epoch: measure_batches.sql counts the decisions by it.
WITH waiting AS (
    -- OFFSET: only what is in the broker is read, not what is open of the batches.
    SELECT q.id FROM (SELECT id, batch_id FROM queries WHERE state = 'queued' OFFSET 0) AS q
    WHERE q.batch_id = ANY(CAST(:batch_ids AS bigint[]))
    LIMIT 10000
),
returned AS (
    UPDATE queries AS q SET state = 'ready', moved_at = now(), epoch = q.epoch + 1
    FROM waiting AS w
    WHERE q.id = w.id AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, q.batch_id, q.epoch, q.stage
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT r.batch_id, r.id, r.epoch, 'pause', 'pause', r.stage, r.stage, 'ready',
           CASE WHEN b.pause_code IS NULL THEN 'user' ELSE 'feeder' END, ARRAY[coalesce(b.pause_code, 'pause')],
           ARRAY[CASE WHEN b.pause_code IS NULL THEN 'paused by the user'
                      ELSE 'paused: its tenant stores too much' END]
    FROM returned AS r JOIN batches AS b ON b.id = r.batch_id
)
SELECT count(*) FROM returned
