-- queued → ready for queries that have waited in the broker longer than any message lasts there.
WITH lost AS (
    SELECT id FROM queries
    WHERE state = 'queued' AND stage = :stage AND moved_at < now() - make_interval(secs => :older_than_s)
    ORDER BY id
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
),
returned AS (
    UPDATE queries AS q SET state = 'ready', moved_at = now(), was_lost = true
    FROM lost WHERE q.id = lost.id
    RETURNING q.id, q.batch_id, q.epoch, q.stage
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT batch_id, id, epoch, 'return_lost', 'return_lost', stage, stage, 'ready', 'feeder',
           ARRAY['return_lost'], ARRAY[CAST(:reason AS text)]
    FROM returned
)
SELECT count(*) FROM returned
