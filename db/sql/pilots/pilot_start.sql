-- The pilot of a batch exists, and its first sample is due: the queries whose hash with the seed is smallest, which is a
-- uniform sample whatever the order of the file. Pinned queries are no part of it: they are due at once.
WITH pilot AS (
    INSERT INTO pilots (batch_id, floor, confidence, seed, max_queries, stops, audit_share, state)
    VALUES (:batch_id, :floor, :confidence, :seed, :max_queries, :stops, :audit_share, 'sampling')
),
pinned AS (
    UPDATE queries AS q SET due_at = now()
    FROM prompts AS p
    WHERE q.batch_id = :batch_id AND p.query_id = q.id AND coalesce(p.options ->> 'pin', 'auto') <> 'auto'
),
sampled AS (
    SELECT q.id FROM queries AS q JOIN prompts AS p ON p.query_id = q.id
    WHERE q.batch_id = :batch_id AND coalesce(p.options ->> 'pin', 'auto') = 'auto'
    ORDER BY hashint8extended(q.id, :seed) LIMIT :sample
)
UPDATE queries AS q SET due_at = now(), pilot = true FROM sampled AS s WHERE q.id = s.id
