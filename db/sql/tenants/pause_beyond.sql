-- No query is claimed of an open batch that a key submitted whose tenant has batches of more than :most bytes, until it is
-- resumed. Chats are not paused: someone waits for them, and they are few.
WITH beyond AS MATERIALIZED (
    SELECT b.tenant FROM batches AS b LEFT JOIN tenants AS t ON t.name = b.tenant
    WHERE b.measured_at IS NULL
    GROUP BY b.tenant
    HAVING coalesce(max(t.stored_bytes), 0) + sum(b.prompt_bytes + b.answer_bytes) > :most
)
UPDATE batches AS b SET paused_at = coalesce(b.paused_at, now()), pause_code = 'quota_reached'
FROM beyond AS t
WHERE b.tenant = t.tenant AND b.ended_at IS NULL AND b.cancelled_at IS NULL AND b.pause_code IS NULL
  AND b.key_id IS NOT NULL AND b.source <> '/v1/chat/completions'
RETURNING b.public_id, b.tenant
