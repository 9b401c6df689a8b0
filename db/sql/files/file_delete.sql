-- Removes a tenant's file with its pieces.
WITH gone AS (
    DELETE FROM files
    WHERE id = :id AND tenant = :tenant AND ready AND (expires_at IS NULL OR expires_at > now())
    RETURNING id
),
pieces AS (DELETE FROM file_pieces AS p USING gone WHERE p.file_id = gone.id)
SELECT id FROM gone
