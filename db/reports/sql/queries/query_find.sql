-- Queries by id or by custom_id, within one batch or in all; the newest first.
SELECT q.id, b.public_id, b.simulated, p.custom_id, p.line, q.stage, q.state, q.tier, q.escalations, q.crashes,
       b.created_at AS submitted_at, CASE WHEN q.due_at < '9000-01-01' THEN q.due_at END AS due_at,
       q.lease_until, q.finished_at,
       p.options ->> 'pin' AS pin,
       CASE WHEN l.content -> 'aliases' <> '{}' THEN p.body ->> 'model' END AS asked_model,
       a.tier AS answer_tier, a.model AS answer_model, a.confidence AS answer_confidence, a.accepted,
       (SELECT l.custom_id FROM followers AS f JOIN prompts AS l ON l.query_id = f.leader_id
        WHERE f.query_id = q.id) AS follows
FROM prompts AS p
JOIN queries AS q ON q.id = p.query_id
JOIN batches AS b ON b.id = p.batch_id
JOIN price_lists AS l ON l.digest = b.price_list
LEFT JOIN answers AS a ON a.query_id = q.id
WHERE (CAST(:query_id AS bigint) IS NOT NULL AND p.query_id = :query_id
       OR p.batch_id IN (SELECT id FROM batches WHERE CAST(:public_id AS text) IS NULL OR public_id = :public_id)
          AND p.custom_id = CAST(:custom_id AS text))
ORDER BY p.query_id DESC
LIMIT 20
