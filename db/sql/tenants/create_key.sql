-- Adds a key, and its tenant with the given limits; nothing where the identity has one.
WITH made AS (
    INSERT INTO api_keys (id, tenant, name, hash, role, identity)
    VALUES (:id, :tenant, :name, :hash, :role, CAST(:identity AS text))
    ON CONFLICT (identity) WHERE revoked_at IS NULL DO NOTHING
    RETURNING id, tenant
),
owner AS (
    INSERT INTO tenants (name, requests_per_min, day_usd)
    SELECT tenant, CAST(:requests_per_min AS integer), CAST(:day_usd AS numeric) FROM made
    ON CONFLICT (name) DO UPDATE
    SET requests_per_min = coalesce(excluded.requests_per_min, tenants.requests_per_min),
        day_usd = coalesce(excluded.day_usd, tenants.day_usd)
)
SELECT id FROM made
