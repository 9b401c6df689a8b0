-- Promotes the version with this name; a null digest means the shipped one.
-- Writes nothing if it serves already, or if that version is not registered.
WITH serving AS (
    SELECT digest FROM router_promotions WHERE undone_at IS NULL ORDER BY id DESC LIMIT 1
)
INSERT INTO router_promotions (name, digest, promoted_by)
SELECT :name, CAST(:digest AS text), :promoted_by
WHERE (SELECT digest FROM serving) IS DISTINCT FROM CAST(:digest AS text)
  AND (CAST(:digest AS text) IS NULL OR EXISTS (SELECT FROM routers WHERE name = :name AND digest = :digest))
RETURNING id
