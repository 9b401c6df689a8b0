-- Registers a router under its name, with its files, unless a router of that name serves. Returns its name, or nothing.
WITH serving AS (
    SELECT name FROM router_promotions WHERE undone_at IS NULL ORDER BY id DESC LIMIT 1
),
free AS (
    SELECT 1 WHERE NOT EXISTS (SELECT FROM serving WHERE name = :name)
),
stored AS (
    INSERT INTO router_files (digest, file, content)
    SELECT :digest, f.file, f.content
    FROM free, unnest(CAST(:files AS text[]), CAST(:contents AS bytea[])) AS f (file, content)
    ON CONFLICT DO NOTHING
)
INSERT INTO routers (name, digest, data_sha256, manifest, added_by)
SELECT :name, :digest, :data_sha256, CAST(:manifest AS jsonb), :added_by
FROM free
ON CONFLICT (name) DO UPDATE
SET digest = excluded.digest, data_sha256 = excluded.data_sha256, manifest = excluded.manifest,
    added_at = now(), added_by = excluded.added_by
RETURNING name
