-- A batch by its public handle.
SELECT b.id, b.handle, b.tenant, b.source, b.total, b.simulated, b.fleet, b.fleet_digest, b.metadata,
       b.plan, b.created_at, b.cancelled_at, b.ended_at, g.cap_usd, b.budget_policy
FROM batches AS b
LEFT JOIN budgets AS g ON g.batch_id = b.id
WHERE b.handle = :handle
