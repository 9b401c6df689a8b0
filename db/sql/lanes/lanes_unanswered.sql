-- The deployments whose provider batches answered nothing of a batch at a tier.
SELECT DISTINCT p.deployment FROM provider_batches AS p
WHERE p.batch_id = :batch_id AND p.tier = :tier AND p.state = 'done' AND p.answered = 0 AND p.submitted_at IS NOT NULL
