-- The handle of the newest batch, preferring one that has not ended.
SELECT b.handle
FROM batches AS b
ORDER BY (b.ended_at IS NULL) DESC, b.id DESC
LIMIT 1
