-- The first decision from :id on.
SELECT id, at FROM decisions WHERE id >= :id ORDER BY id LIMIT 1
