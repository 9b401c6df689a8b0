-- Cancels (or expires) open queries of a batch, :rows at a time: other tenants' answers are committed together with
-- those of this batch, and wait for these locks. With :if_closing none of a batch that was resumed since it was listed:
-- its failed queries start again.
WITH slice AS MATERIALIZED (  -- in no order: else all open queries of the batch are read and sorted for each slice
    SELECT q.id FROM queries AS q
    WHERE q.batch_id = :batch_id AND q.finished_at IS NULL
      AND (NOT CAST(:if_closing AS boolean) OR EXISTS (
          SELECT FROM batches AS b
          WHERE b.id = :batch_id AND (b.cancelled_at IS NOT NULL OR b.expires_at < now() AND b.paused_at IS NULL)))
    LIMIT :rows
),
open AS (
    SELECT q.id, q.stage FROM queries AS q
    WHERE q.id IN (SELECT id FROM slice) AND q.finished_at IS NULL
    ORDER BY q.id
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
-- Where another closer was faster, none of what was seen is left for this one; there may be more.
SELECT count(*) AS closed, (SELECT count(*) FROM slice) AS seen FROM closed
