-- Undoes the newest promotion; the one before serves again. Returns the one that was undone.
UPDATE router_promotions
SET undone_at = now(), undone_by = :undone_by
WHERE undone_at IS NULL
  AND id = (SELECT max(id) FROM router_promotions WHERE undone_at IS NULL)
RETURNING name, digest
