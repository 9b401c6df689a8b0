-- What is known of a batch's quality: its pilot, certificate and audits.
SELECT t.floor, t.confidence, t.state, t.seed, t.certificate, t.decided_at, t.breached_at, t.stops,
       (SELECT count(*) FROM queries AS q WHERE q.batch_id = t.batch_id AND q.pilot) AS pilot_queries,
       (SELECT coalesce(sum(c.cost_usd), 0) FROM calls AS c JOIN queries AS q ON q.id = c.query_id
        WHERE c.batch_id = t.batch_id AND q.pilot) AS pilot_usd,
       (SELECT coalesce(sum(c.cost_usd), 0) FROM calls AS c WHERE c.batch_id = t.batch_id AND c.purpose = 'grade') AS grade_usd,
       (SELECT coalesce(sum(c.cost_usd), 0) FROM calls AS c WHERE c.batch_id = t.batch_id AND c.purpose = 'audit') AS audit_usd,
       (SELECT count(*) FROM audits AS s WHERE s.batch_id = t.batch_id) AS audits,
       (SELECT array_agg(s.reference_grade - s.grade) FROM audits AS s WHERE s.batch_id = t.batch_id) AS audit_losses
FROM pilots AS t WHERE t.batch_id = :batch_id
