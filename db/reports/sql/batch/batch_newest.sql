-- The handle of the batch that was submitted last, open or not.
SELECT b.handle
FROM batches AS b
ORDER BY b.id DESC
LIMIT 1
