-- The cap of a batch; null without a budget of its own.
SELECT g.cap_usd
FROM batches AS b
LEFT JOIN budgets AS g ON g.batch_id = b.id
WHERE b.id = :batch_id
