-- Batches of one whose query has ended; the batch itself may still be open for a moment.
SELECT b.handle, b.id
FROM batches AS b
WHERE b.handle = ANY(CAST(:handles AS text[]))
  AND EXISTS (SELECT 1 FROM queries AS q WHERE q.id BETWEEN b.first_query_id AND b.last_query_id
                AND q.batch_id = b.id AND q.finished_at IS NOT NULL)
