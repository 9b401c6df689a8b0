-- Open chats of a tenant that have an idempotency key, :most at most; none where :key has one, which is asked for again.
SELECT count(*) AS n
FROM (
    SELECT FROM batches AS b
    WHERE b.tenant = :tenant AND b.source = :chat AND b.idempotency_key IS NOT NULL AND b.ended_at IS NULL
      AND NOT EXISTS (SELECT FROM batches AS k WHERE k.tenant = :tenant AND k.idempotency_key = :key)
    LIMIT :most
) AS o
