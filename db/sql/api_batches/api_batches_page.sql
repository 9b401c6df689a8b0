-- Handles of a tenant's batches, the newest first, whichever way they came; but not chat completions.
SELECT handle FROM (
    (SELECT a.handle, a.created_at FROM api_batches AS a
     WHERE a.tenant = :tenant
       AND (CAST(:after_handle AS text) IS NULL
            OR (a.created_at, a.handle) < (CAST(:after_at AS timestamptz), CAST(:after_handle AS text)))
     ORDER BY a.created_at DESC, a.handle DESC LIMIT :rows)
    UNION ALL
    (SELECT b.handle, b.created_at FROM batches AS b
     WHERE b.tenant = :tenant AND b.source <> :chat
       AND NOT EXISTS (SELECT 1 FROM api_batches AS a WHERE a.handle = b.handle)
       AND (CAST(:after_handle AS text) IS NULL
            OR (b.created_at, b.handle) < (CAST(:after_at AS timestamptz), CAST(:after_handle AS text)))
     ORDER BY b.created_at DESC, b.handle DESC LIMIT :rows)
) AS both_ways
ORDER BY created_at DESC, handle DESC
LIMIT :rows
