-- Ends each batch that has no open query left: in this one statement, so that it ends once. One whose pilot is not decided
-- yet ends with its certificate, unless it was cancelled or its window has closed.
WITH over AS MATERIALIZED (
    SELECT b.id, b.xmin AS version
    FROM batches AS b
    WHERE b.ended_at IS NULL
      -- Else the clock was set back since: its end would be before its beginning, which the table refuses for all.
      AND b.created_at < now() + interval '1 hour'
      AND NOT EXISTS (SELECT 1 FROM queries AS q
                      WHERE q.batch_id = b.id AND q.finished_at IS NULL)
      AND (b.cancelled_at IS NOT NULL OR b.expires_at < now()
           OR NOT EXISTS (SELECT 1 FROM pilots AS t WHERE t.batch_id = b.id AND t.state <> 'decided'))
)
UPDATE batches AS b
SET ended_at = now()
FROM over AS o
-- As it was when its queries were looked at. Where a resume holds the row meanwhile, this waits for it, and then sees
-- its batch, but not that its queries are open again: the next look does.
WHERE b.id = o.id AND b.xmin = o.version
RETURNING b.id, b.public_id
