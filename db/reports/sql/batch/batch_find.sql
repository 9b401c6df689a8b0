-- A batch by its public id.
SELECT b.id, b.public_id, b.tenant, b.source, b.total, b.simulated, b.fleet, b.fleet_digest, b.metadata,
       b.plan, b.created_at, b.cancelled_at, b.ended_at, g.cap_usd, b.budget_policy
FROM batches AS b
LEFT JOIN budgets AS g ON g.batch_id = b.id
WHERE b.public_id = :public_id
