-- What the forecast of each batch knew of the lengths of its answers.
SELECT b.id, b.plan -> 'answer_lengths' AS answer_lengths
FROM batches AS b
WHERE b.id = ANY(CAST(:batch_ids AS bigint[]))
