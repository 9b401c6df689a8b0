-- Removes an incomplete file, with its pieces.
WITH gone AS (DELETE FROM files WHERE id = :id AND NOT ready RETURNING id)
DELETE FROM file_pieces AS p USING gone WHERE p.file_id = gone.id
