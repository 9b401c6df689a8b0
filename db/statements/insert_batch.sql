-- The batch itself, written last: nobody sees its queries before.
INSERT INTO batches (id, handle, tenant, idempotency_key, source, metadata, total, priority,
                     fleet, fleet_digest, simulated, cap_usd, budget_policy)
VALUES (:id, :handle, :tenant, :key, :source, CAST(:metadata AS jsonb), :total, :priority,
        :fleet, :digest, :simulated, :cap_usd, :policy)
