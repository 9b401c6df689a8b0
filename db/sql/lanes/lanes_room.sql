-- The tokens that a tenant may add to what is enqueued at a deployment, which takes :most. Tenants that have some there, or
-- are in :waiting, have equal parts; where there are other tenants, one part is left for whoever comes next.
WITH held AS (
    -- What is being formed may yet take all that it was given.
    SELECT b.tenant, sum(CASE WHEN p.state = 'forming' AND b.paused_at IS NULL THEN greatest(p.max_tokens, p.tokens)
                              ELSE p.tokens END) AS tokens
    FROM provider_batches AS p
    JOIN batches AS b ON b.id = p.batch_id
    WHERE p.deployment = :deployment AND p.state NOT IN ('collecting', 'done')
    GROUP BY b.tenant
),
sharing AS (
    SELECT tenant FROM held UNION SELECT unnest(CAST(:waiting AS text[]))
),
parts AS (
    SELECT count(*) + CAST(EXISTS (
        SELECT FROM api_keys AS k WHERE k.revoked_at IS NULL AND k.tenant NOT IN (SELECT tenant FROM sharing)) AS integer) AS n
    FROM sharing
)
SELECT CAST(least(:most - coalesce(sum(h.tokens), 0),
                  :most / (SELECT n FROM parts) - coalesce(sum(h.tokens) FILTER (WHERE h.tenant = :tenant), 0)) AS bigint)
           AS tokens
FROM held AS h
