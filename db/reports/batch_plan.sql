-- What a dry run predicted of a batch, if there was one, and what it may cost.
SELECT b.plan, g.cap_usd, b.sealed_at
FROM batches AS b
LEFT JOIN budgets AS g ON g.batch_id = b.id
WHERE b.id = :batch_id
