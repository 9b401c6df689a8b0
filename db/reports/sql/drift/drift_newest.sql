-- The highest id of a decision, 0 where there is none.
SELECT coalesce((SELECT id FROM decisions ORDER BY id DESC LIMIT 1), 0) AS id
