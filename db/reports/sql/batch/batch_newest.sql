-- The public id of the batch that was submitted last, open or not.
SELECT b.public_id
FROM batches AS b
ORDER BY b.id DESC
LIMIT 1
