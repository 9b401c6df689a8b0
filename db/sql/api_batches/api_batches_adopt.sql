-- Batches that came otherwise than over HTTP get their row.
INSERT INTO api_batches (handle, tenant, endpoint, completion_window, metadata, status, created_at, accepted_at)
SELECT b.handle, b.tenant, b.endpoint, '24h', b.metadata, 'accepted', b.created_at, b.created_at
FROM batches AS b
WHERE b.tenant = :tenant AND b.handle = ANY(CAST(:handles AS text[]))
ON CONFLICT DO NOTHING
