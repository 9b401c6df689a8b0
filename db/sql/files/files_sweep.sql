-- Removes files that have expired, and uploads that were not finished.
-- An input file stays until its batch has been read from it.
WITH gone AS (
    DELETE FROM files AS f
    WHERE (f.expires_at < now() OR NOT f.ready AND f.created_at < now() - interval '1 day')
      AND NOT EXISTS (SELECT 1 FROM api_batches AS a WHERE a.input_file_id = f.id AND a.status = 'validating')
    RETURNING f.id
),
pieces AS (DELETE FROM file_pieces AS p USING gone WHERE p.file_id = gone.id)
SELECT id FROM gone
