-- Adds rows for batches that did not come over HTTP.
INSERT INTO api_batches (public_id, tenant, endpoint, completion_window, metadata, status, created_at, accepted_at)
SELECT b.public_id, b.tenant, b.endpoint, '24h', b.metadata, 'accepted', b.created_at, b.created_at
FROM batches AS b
WHERE b.tenant = :tenant AND b.public_id = ANY(CAST(:public_ids AS text[]))
ON CONFLICT DO NOTHING
