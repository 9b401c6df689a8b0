-- The queries of a custom_id in the tenant's newest batches, the newest first.
SELECT b.public_id AS batch_id, p.custom_id, q.state, q.stage, q.tier, q.escalations, b.created_at AS submitted_at,
       q.finished_at, b.simulated
FROM (SELECT * FROM batches WHERE tenant = :tenant ORDER BY created_at DESC LIMIT 1000) AS b
JOIN prompts AS p ON p.batch_id = b.id AND p.custom_id = :custom_id
JOIN queries AS q ON q.id = p.query_id
ORDER BY b.created_at DESC, b.id DESC
LIMIT 20
