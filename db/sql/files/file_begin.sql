-- Begins an upload, unless the tenant's quotas have no room for it; says what the tenant keeps.
WITH kept AS (
    SELECT count(*) AS files, coalesce(sum(CASE WHEN ready THEN bytes ELSE :most_bytes END), 0) AS bytes
    FROM files
    WHERE tenant = :tenant AND content = 'stored'
), begun AS (
    INSERT INTO files (id, tenant, purpose, filename, content)
    SELECT :id, :tenant, '', '', 'stored' FROM kept AS k
    WHERE k.files < :files AND k.bytes < :file_bytes
    RETURNING id
)
SELECT k.files, k.bytes, EXISTS (SELECT FROM begun) AS begun FROM kept AS k
