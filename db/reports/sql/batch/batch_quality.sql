-- What is known of a batch's quality: its pilot, certificate and audits. `departures`: queries that a budget kept from
-- the certified policy, answered below the top tier or ended without an answer. Holds count only where they expired. The
-- decisions are those of the query that was asked: a follower has none of its own.
SELECT t.floor, t.confidence, t.state, t.seed, t.certificate, t.decided_at, t.breached_at, t.stops,
       (SELECT count(*) FROM queries AS q WHERE q.batch_id = t.batch_id AND q.pilot) AS pilot_queries,
       (SELECT coalesce(sum(c.cost_usd), 0) FROM calls AS c JOIN queries AS q ON q.id = c.query_id
        WHERE c.batch_id = t.batch_id AND q.pilot) AS pilot_usd,
       (SELECT coalesce(sum(c.cost_usd), 0) FROM calls AS c WHERE c.batch_id = t.batch_id AND c.purpose = 'grade') AS grade_usd,
       (SELECT coalesce(sum(c.cost_usd), 0) FROM calls AS c WHERE c.batch_id = t.batch_id AND c.purpose = 'audit') AS audit_usd,
       (SELECT count(*) FROM audits AS s WHERE s.batch_id = t.batch_id) AS audits,
       (SELECT array_agg(s.reference_grade - s.grade) FROM audits AS s WHERE s.batch_id = t.batch_id) AS audit_losses,
       CASE WHEN t.certificate ->> 'outcome' = 'certified'
                 AND EXISTS (SELECT FROM budgets AS g JOIN batches AS b ON g.batch_id = b.id OR g.tenant = b.tenant
                             WHERE b.id = t.batch_id)
            THEN (SELECT count(*)
                  FROM queries AS q
                  LEFT JOIN answers AS a ON a.query_id = q.id
                  LEFT JOIN calls AS c ON c.id = a.call_id
                  JOIN (SELECT d.query_id, array_agg(DISTINCT d.move) AS moves
                        FROM decisions AS d
                        WHERE d.batch_id = t.batch_id AND d.codes && ARRAY['lowered', 'over_budget', 'budget_reserved']
                        GROUP BY d.query_id) AS short ON short.query_id = coalesce(c.query_id, q.id)
                  WHERE q.batch_id = t.batch_id AND NOT q.pilot
                    AND CASE q.state
                        WHEN 'done' THEN short.moves && ARRAY['advance', 'finish']
                                         AND q.tier IS DISTINCT FROM t.certificate -> 'tiers' ->> -1
                        WHEN 'failed' THEN short.moves && ARRAY['advance', 'fail']
                        ELSE q.state = 'expired' END)
            ELSE 0 END AS departures
FROM pilots AS t WHERE t.batch_id = :batch_id
