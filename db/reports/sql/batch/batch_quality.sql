-- What is known of a batch's quality: its pilot, certificate and audits; what they cost only where `priced`, as all calls
-- of the batch are read for that.
SELECT t.floor, t.confidence, t.state, t.certificate, t.breached_at,
       (SELECT count(*) FROM queries AS q WHERE q.batch_id = t.batch_id AND q.pilot) AS pilot_queries,
       coalesce(c.pilot_usd, 0) AS pilot_usd, coalesce(c.grade_usd, 0) AS grade_usd, coalesce(c.audit_usd, 0) AS audit_usd,
       (SELECT count(*) FROM audits AS s WHERE s.batch_id = t.batch_id) AS audits,
       (SELECT array_agg(s.reference_grade - s.grade) FROM audits AS s WHERE s.batch_id = t.batch_id) AS audit_losses
FROM pilots AS t
LEFT JOIN LATERAL (
    SELECT sum(c.cost_usd) FILTER (WHERE q.pilot) AS pilot_usd,
           sum(c.cost_usd) FILTER (WHERE c.purpose = 'grade') AS grade_usd,
           sum(c.cost_usd) FILTER (WHERE c.purpose = 'audit') AS audit_usd
    FROM calls AS c
    LEFT JOIN queries AS q ON q.id = c.query_id
    WHERE c.batch_id = t.batch_id
) AS c ON CAST(:priced AS boolean)
WHERE t.batch_id = :batch_id
