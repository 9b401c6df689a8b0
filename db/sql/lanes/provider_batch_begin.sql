-- A provider batch begins to be formed, unless one of the same batch and tier is.
INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries, max_tokens)
VALUES (:batch_id, :tier, :deployment, :provider, :model, :marker, :reason, :max_queries, CAST(:max_tokens AS bigint))
ON CONFLICT DO NOTHING
RETURNING id
