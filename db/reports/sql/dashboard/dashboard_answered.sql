-- The batches that queries were answered of within a period, without chat completions, of which none knows another's
-- lengths: of each tenant the newest first, and tenants in turn.
SELECT b.id, b.public_id, b.ended_at
FROM batches AS b
WHERE b.id IN (SELECT d.batch_id FROM decisions AS d WHERE d.at >= :since AND d.at < :until AND d.to_state = 'done')
  AND b.source <> '/v1/chat/completions'
ORDER BY row_number() OVER (PARTITION BY b.tenant ORDER BY b.id DESC)
