-- Ends each batch that has no open query left: in this one statement, so that it ends once.
UPDATE batches AS b
SET ended_at = now()
WHERE b.ended_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM queries AS q
                  WHERE q.batch_id = b.id AND q.finished_at IS NULL)
RETURNING b.id, b.handle
