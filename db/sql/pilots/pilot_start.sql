-- The pilot of a batch exists, without a sample yet. Pinned queries are no part of it: they are due at once.
WITH pilot AS (
    INSERT INTO pilots (batch_id, floor, confidence, seed, max_queries, stops, audit_share, state)
    VALUES (:batch_id, :floor, :confidence, :seed, :max_queries, :stops, :audit_share, 'sampling')
)
UPDATE queries AS q SET due_at = now()
FROM prompts AS p
WHERE q.batch_id = :batch_id AND p.query_id = q.id AND coalesce(p.options ->> 'pin', 'auto') <> 'auto'
