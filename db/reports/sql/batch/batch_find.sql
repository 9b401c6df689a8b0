-- A batch by its public id.
SELECT b.id, b.public_id, b.tenant, b.source, b.total, b.simulated, b.fleet, b.fleet_digest, l.content AS price_list,
       b.metadata, b.plan, b.created_at, b.cancelled_at, b.ended_at, g.cap_usd, b.budget_policy
FROM batches AS b
JOIN price_lists AS l ON l.digest = b.price_list
LEFT JOIN budgets AS g ON g.batch_id = b.id
WHERE b.public_id = :public_id
