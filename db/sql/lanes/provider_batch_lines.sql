-- The open calls of a provider batch with the bodies of their queries, in order of id: what is uploaded. As many as have
-- :bytes of texts together, and at least one.
SELECT id, left_out, CAST(body AS text) AS body, CAST(options AS text) AS options
FROM (
    SELECT unsent.*, row_number() OVER in_order AS place, sum(bytes) OVER in_order AS bytes_so_far
    FROM (
        SELECT c.id, c.left_out, p.body, p.options, p.bytes
        FROM calls AS c
        JOIN prompts AS p ON p.query_id = c.query_id
        WHERE c.provider_batch_id = :id AND c.outcome IS NULL AND c.id > :after
        ORDER BY c.id
        LIMIT :most
    ) AS unsent
    WINDOW in_order AS (ORDER BY id)
) AS page
WHERE place = 1 OR bytes_so_far <= :bytes
ORDER BY id
