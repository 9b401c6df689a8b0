-- Public ids of a tenant's batches, of :endpoint if given, the newest first, from all sources except chat completions.
SELECT public_id FROM (
    (SELECT a.public_id, a.created_at FROM api_batches AS a
     WHERE a.tenant = :tenant AND a.endpoint = coalesce(CAST(:endpoint AS text), a.endpoint)
       AND (CAST(:after_public_id AS text) IS NULL
            OR (a.created_at, a.public_id) < (CAST(:after_at AS timestamptz), CAST(:after_public_id AS text)))
     ORDER BY a.created_at DESC, a.public_id DESC LIMIT :rows)
    UNION ALL
    (SELECT b.public_id, b.created_at FROM batches AS b
     WHERE b.tenant = :tenant AND b.source <> :chat AND b.endpoint = coalesce(CAST(:endpoint AS text), b.endpoint)
       AND NOT EXISTS (SELECT 1 FROM api_batches AS a WHERE a.public_id = b.public_id)
       AND (CAST(:after_public_id AS text) IS NULL
            OR (b.created_at, b.public_id) < (CAST(:after_at AS timestamptz), CAST(:after_public_id AS text)))
     ORDER BY b.created_at DESC, b.public_id DESC LIMIT :rows)
) AS both_ways
ORDER BY created_at DESC, public_id DESC
LIMIT :rows
