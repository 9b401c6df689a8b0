-- The version of each name: the promoted one under 'default' (none while the shipped one serves), and the registered
-- names that are asked for.
SELECT 'default' AS name,
       (SELECT digest FROM router_promotions WHERE undone_at IS NULL ORDER BY id DESC LIMIT 1) AS digest
UNION ALL
SELECT name, digest
FROM routers
WHERE name = ANY(:names) AND name <> 'default'
