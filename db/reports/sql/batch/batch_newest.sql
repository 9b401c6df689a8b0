-- The public id of the batch that was submitted last, open or not; a chat completion is not a batch.
SELECT b.public_id
FROM batches AS b
WHERE b.source <> '/v1/chat/completions'
ORDER BY b.id DESC
LIMIT 1
