-- Marks a batch as sealed once each of its decisions is under a seal: it may have been resumed, and have ended again,
-- in between.
UPDATE batches AS b
SET sealed_at = now()
WHERE b.id = :batch_id AND b.ended_at IS NOT NULL
  AND coalesce((SELECT max(d.id) FROM (SELECT id FROM decisions WHERE batch_id = :batch_id OFFSET 0) AS d), 0)
      <= coalesce((SELECT s.ids[cardinality(s.ids)] FROM seals AS s
                   WHERE s.batch_id = :batch_id ORDER BY s.place DESC LIMIT 1), 0)
