-- The batch that the same idempotency key made, or the same request a short while ago, if this is a retry of it.
SELECT public_id, fingerprint FROM api_batches
WHERE tenant = :tenant
  AND CASE WHEN CAST(:idempotency_key AS text) IS NOT NULL THEN idempotency_key = :idempotency_key
           ELSE CAST(:retried AS boolean) AND fingerprint = :fingerprint
                AND created_at > now() - make_interval(secs => :retried_within_s) END
ORDER BY created_at DESC
LIMIT 1
