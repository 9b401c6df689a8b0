-- Chat completions of the last hour by tenant: how many were asked, wait, and ended, and their mean time to an answer.
SELECT tenant, count(*) AS asked, count(*) FILTER (WHERE ended_at IS NULL) AS open,
       count(*) FILTER (WHERE cancelled_at IS NOT NULL) AS cancelled,
       (extract(epoch FROM avg(ended_at - created_at) FILTER (WHERE cancelled_at IS NULL)))::double precision AS mean_s
FROM batches
WHERE source = '/v1/chat/completions' AND tenant = ANY(CAST(:tenants AS text[])) AND created_at > now() - interval '1 hour'
GROUP BY tenant
