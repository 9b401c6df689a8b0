-- The fields that lines of a deployment's provider batches were refused for, in the last 30 days: its server may have changed.
SELECT DISTINCT unnest(p.refused) AS field FROM provider_batches AS p
WHERE p.deployment = :deployment AND p.model = :model AND p.refused <> '{}'
  AND p.created_at > now() - interval '30 days'
