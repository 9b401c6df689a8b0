-- Of the last day, all tenants: the batches with a quality floor by the state of their certificate; what audits lost.
SELECT (SELECT coalesce(jsonb_object_agg(one.standing, one.batch_ids), '{}')
        FROM (SELECT CASE WHEN t.breached_at IS NOT NULL THEN 'broken'
                          WHEN t.state <> 'decided' THEN t.state
                          ELSE coalesce(t.certificate ->> 'outcome', 'decided') END AS standing,
                     array_agg(t.batch_id) AS batch_ids
              FROM pilots AS t
              WHERE greatest(t.created_at, t.decided_at, t.breached_at) > now() - interval '1 day'
              GROUP BY 1) AS one) AS batches,
       (SELECT array_agg(s.reference_grade - s.grade) FROM audits AS s WHERE s.at > now() - interval '1 day') AS audit_losses
