-- A batch by its public handle.
SELECT b.id, b.handle, b.tenant, b.source, b.total, b.simulated, b.fleet, b.fleet_digest, b.metadata,
       b.created_at, b.cancelled_at, b.ended_at, b.cap_usd, b.budget_policy
FROM batches AS b
WHERE b.handle = :handle
