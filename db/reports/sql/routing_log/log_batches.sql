-- The batches of a log: a single one, or all since a time, oldest first. Nothing decides where embeddings go.
SELECT b.id, b.public_id, b.source, b.total, b.simulated, b.fleet, b.fleet_digest, b.metadata,
       l.content AS price_list, b.plan,
       b.created_at, b.cancelled_at, b.ended_at, b.first_query_id, b.last_query_id, b.purged_at
FROM batches AS b
JOIN price_lists AS l ON l.digest = b.price_list
WHERE (CAST(:public_id AS text) IS NULL OR b.public_id = :public_id)
  AND (CAST(:since AS timestamptz) IS NULL OR b.created_at >= :since)
  AND b.endpoint <> '/v1/embeddings'
ORDER BY b.id
