-- Route decisions as the router saw its queries: the first since the serving router was promoted, and the newest. The
-- router sees no embeddings.
WITH since AS (
    SELECT coalesce(
        (SELECT promoted_at FROM router_promotions WHERE undone_at IS NULL ORDER BY id DESC LIMIT 1),
        '-infinity'::timestamptz) AS at
),
reference AS MATERIALIZED (
    SELECT d.id, d.query_id, d.tier, d.score, d.confidence, d.detail
    FROM decisions AS d
    WHERE d.kind = 'route' AND d.router <> 'endpoint' AND d.at >= (SELECT at FROM since)
    ORDER BY d.id
    LIMIT :reference
),
recent AS MATERIALIZED (
    SELECT d.id, d.query_id, d.tier, d.score, d.confidence, d.detail
    FROM decisions AS d
    WHERE d.kind = 'route' AND d.router <> 'endpoint' AND d.at >= (SELECT at FROM since)
    ORDER BY d.id DESC
    LIMIT :recent
)
SELECT s.is_recent, s.tier, s.score, s.confidence, s.detail ->> 'category' AS category,
       nullif(p.bytes, 2) AS body_bytes
FROM (
    SELECT false AS is_recent, r.* FROM reference AS r
    UNION ALL
    SELECT true, n.* FROM recent AS n WHERE n.id > (SELECT max(id) FROM reference)
) AS s
LEFT JOIN prompts AS p ON p.query_id = s.query_id
