-- Cancels (or expires) open queries of a batch, a bounded number at a time. With :if_closing none of a batch that was
-- resumed since it was listed: its failed queries start again.
WITH open AS (
    SELECT q.id, q.stage FROM queries AS q
    WHERE q.batch_id = :batch_id AND q.finished_at IS NULL
      AND (NOT CAST(:if_closing AS boolean) OR EXISTS (
          SELECT FROM batches AS b
          WHERE b.id = :batch_id AND (b.cancelled_at IS NOT NULL OR b.expires_at < now() AND b.paused_at IS NULL)))
    ORDER BY q.id
    LIMIT 20000
    FOR UPDATE
),
closed AS (
    UPDATE queries AS q
    SET state = :to_state, finished_at = now(), lease_until = NULL, moved_at = now()
    FROM open
    WHERE q.id = open.id
    RETURNING q.id, q.batch_id, q.epoch, q.stage
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT batch_id, id, epoch, :move, :move, stage, stage, :to_state, :actor, ARRAY[CAST(:move AS text)],
           ARRAY[CAST(:reason AS text)]
    FROM closed
)
SELECT count(*) FROM closed
