-- The newest ended batches of a fleet, with their plans: the history of a forecast. Embeddings say nothing of answers. The
-- tenant's own come first: else a neighbor with many small batches would be all that there is to go by.
WITH own AS MATERIALIZED (
    SELECT id FROM batches
    WHERE tenant = :tenant AND fleet = :fleet AND simulated = :simulated AND ended_at IS NOT NULL
      AND cancelled_at IS NULL AND source <> '/v1/chat/completions' AND endpoint <> '/v1/embeddings'
    ORDER BY created_at DESC
    LIMIT :batches
),
others AS MATERIALIZED (
    SELECT id FROM batches
    WHERE tenant <> :tenant AND fleet = :fleet AND simulated = :simulated AND ended_at IS NOT NULL
      AND cancelled_at IS NULL AND source <> '/v1/chat/completions' AND endpoint <> '/v1/embeddings'
    ORDER BY id DESC
    LIMIT greatest(:batches - (SELECT count(*) FROM own), 0)
)
SELECT b.id, b.tenant, b.plan, b.total, extract(epoch FROM b.ended_at - b.created_at)::double precision AS wall_s
FROM batches AS b
WHERE b.id IN (SELECT id FROM own UNION ALL SELECT id FROM others)
ORDER BY b.id DESC
