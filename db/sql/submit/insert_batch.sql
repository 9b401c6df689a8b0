-- Inserts the batch, written last: its queries are invisible before. With it its budget, and those of its tenant for
-- today and tomorrow, if there are caps: the tenant's own, else the fleet's; and its price list, unless an earlier batch
-- had the same.
WITH prices AS (
    INSERT INTO price_lists (digest, content) VALUES (:price_list, CAST(:prices AS jsonb))
    ON CONFLICT (digest) DO NOTHING
),
batch AS (
    INSERT INTO batches (id, public_id, tenant, key_id, idempotency_key, source, endpoint, metadata, total, content_sha256,
                         prompt_bytes, answer_bytes, first_query_id, last_query_id, priority,
                         fleet, fleet_digest, price_list, simulated, budget_policy, plan, expires_at, deadline,
                         traceparent)
    VALUES (:id, :public_id, :tenant, CAST(:key_id AS text), :key, :source, :endpoint, CAST(:metadata AS jsonb), :total, CAST(:content AS bytea), :prompt_bytes, :answer_bytes, :first_id, :last_id, :priority,
            :fleet, :digest, :price_list, :simulated, :policy, CAST(:plan AS jsonb), CAST(:expires_at AS timestamptz),
            CAST(:deadline AS timestamptz),
            CAST(:traceparent AS text))
),
of_batch AS (
    INSERT INTO budgets (batch_id, cap_usd)
    SELECT :id, CAST(:cap_usd AS numeric) WHERE CAST(:cap_usd AS numeric) IS NOT NULL
)
INSERT INTO budgets (tenant, day, cap_usd)
SELECT :tenant, CAST(now() AT TIME ZONE 'UTC' AS date) + ahead, l.day_usd
FROM (
    SELECT coalesce((SELECT t.day_usd FROM tenants AS t WHERE t.name = :tenant), CAST(:day_cap_usd AS numeric)) AS day_usd
) AS l
CROSS JOIN generate_series(0, 1) AS ahead
WHERE l.day_usd IS NOT NULL
ON CONFLICT (tenant, day) DO NOTHING
