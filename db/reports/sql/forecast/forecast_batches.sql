-- The newest ended batches of a fleet, with their plans: the history of a forecast. Embeddings say nothing of answers.
SELECT b.id, b.tenant, b.plan, b.total, extract(epoch FROM b.ended_at - b.created_at)::double precision AS wall_s
FROM batches AS b
WHERE b.fleet = :fleet AND b.simulated = :simulated AND b.ended_at IS NOT NULL AND b.cancelled_at IS NULL
  AND b.source <> '/v1/chat/completions' AND b.endpoint <> '/v1/embeddings'
ORDER BY b.id DESC
LIMIT :batches
