-- Per tenant: queries that ended within the last seconds.
SELECT b.tenant, sum(d.n)::bigint AS finished
FROM (
    SELECT batch_id, count(*) AS n
    FROM decisions
    WHERE at > now() - make_interval(secs => :seconds)
      AND to_state IN ('cancelled', 'dead', 'done', 'expired', 'failed')
    GROUP BY batch_id
) AS d
JOIN batches AS b ON b.id = d.batch_id
GROUP BY b.tenant
