-- The newest earlier batch that still has open queries, and how many such batches there are.
-- By their queries, not by ended_at alone: the feeder writes that, and may not be running.
SELECT b.public_id, count(*) OVER () AS batches
FROM batches AS b
WHERE b.ended_at IS NULL
  AND b.id < :batch_id
  AND b.source <> '/v1/chat/completions'
  AND EXISTS (SELECT 1 FROM queries AS q
              WHERE q.batch_id = b.id AND q.finished_at IS NULL)
ORDER BY b.id DESC
LIMIT 1
