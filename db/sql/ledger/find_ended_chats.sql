-- Chats whose query has ended; the batch itself may still be open for a moment. And chats that are held although no
-- other call of their budget is open, or for an account at fault: a chat does not wait for a raise, or for tomorrow.
SELECT b.public_id, b.id
FROM batches AS b
WHERE b.public_id = ANY(CAST(:public_ids AS text[]))
  AND EXISTS (SELECT 1 FROM queries AS q WHERE q.id BETWEEN b.first_query_id AND b.last_query_id
                AND q.batch_id = b.id
                AND (q.finished_at IS NOT NULL
                     OR q.held_for IS NOT NULL AND q.state = 'held'
                     OR q.state = 'held' AND NOT q.yields AND q.needs_usd > (
                         SELECT min(g.cap_usd - g.settled_usd) FROM budgets AS g
                         WHERE g.batch_id = b.id
                            OR (g.tenant = b.tenant AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date)))))
