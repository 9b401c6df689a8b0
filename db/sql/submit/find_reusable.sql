-- The newest accepted answer to each request of the tenant that is young enough to be reused, by the query that it is of.
SELECT DISTINCT ON (k.key) k.key, k.query_id
FROM unnest(CAST(:keys AS bytea[]), CAST(:within_s AS double precision[])) AS w (key, within_s)
JOIN request_keys AS k ON k.tenant = :tenant AND k.key = w.key
JOIN batches AS b ON b.id = k.batch_id AND b.tenant = k.tenant AND b.simulated = :simulated AND b.purged_at IS NULL
JOIN queries AS q ON q.id = k.query_id AND q.state = 'done'
JOIN answers AS a ON a.query_id = k.query_id AND a.accepted AND a.created_at > now() - make_interval(secs => w.within_s)
ORDER BY k.key, a.created_at DESC
