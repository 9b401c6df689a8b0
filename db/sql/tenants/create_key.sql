-- Adds a key, and its tenant with the given limits; nothing where the identity has one, or the tenant has :most keys,
-- ten times as many that were made within a day, or a hundred times as many in all: revoked ones stay in the table.
WITH made AS (
    INSERT INTO api_keys (id, tenant, name, hash, role, identity)
    SELECT :id, :tenant, :name, :hash, :role, CAST(:identity AS text)
    WHERE CAST(:most AS bigint) IS NULL
       OR (SELECT greatest(count(*) FILTER (WHERE revoked_at IS NULL),
                           count(*) FILTER (WHERE created_at > now() - interval '1 day') / 10,
                           count(*) / 100) FROM api_keys
           WHERE tenant = :tenant) < CAST(:most AS bigint)
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
