-- Batches of one whose query has ended; the batch itself may still be open for a moment. And those that are held although
-- nothing else of their budget were under way, or for an account at fault: what would wait for a raise, or for tomorrow, is waited for by nobody here.
SELECT b.handle, b.id
FROM batches AS b
WHERE b.handle = ANY(CAST(:handles AS text[]))
  AND EXISTS (SELECT 1 FROM queries AS q WHERE q.id BETWEEN b.first_query_id AND b.last_query_id
                AND q.batch_id = b.id
                AND (q.finished_at IS NOT NULL
                     OR q.held_for IS NOT NULL AND q.state = 'held'
                     OR q.state = 'held' AND NOT q.yields AND q.needs_usd > (
                         SELECT min(g.cap_usd - g.settled_usd) FROM budgets AS g
                         WHERE g.batch_id = b.id
                            OR (g.tenant = b.tenant AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date)))))
