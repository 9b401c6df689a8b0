-- Per given tenant: the newest batches, and the oldest open ones; chat completions are not among them.
SELECT DISTINCT ON (b.id)
       b.id, b.public_id, b.tenant, b.source, b.total, b.simulated, b.created_at, b.cancelled_at, b.paused_at, b.ended_at,
       EXISTS (SELECT FROM pilots AS p WHERE p.batch_id = b.id) AS has_floor, b.deadline IS NOT NULL AS has_deadline,
       (extract(epoch FROM coalesce(b.ended_at, now()) - b.created_at))::double precision AS wall_s
FROM unnest(CAST(:tenants AS text[])) AS t (name)
CROSS JOIN LATERAL (
    (SELECT * FROM batches WHERE tenant = t.name AND source <> '/v1/chat/completions' ORDER BY created_at DESC LIMIT :rows)
    UNION ALL
    (SELECT * FROM batches
     WHERE ended_at IS NULL AND tenant = t.name AND source <> '/v1/chat/completions' ORDER BY id LIMIT :rows)
) AS b
ORDER BY b.id DESC
