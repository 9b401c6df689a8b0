-- Of the given batches: how many queries a budget kept from the certified policy, answered below the top tier or ended
-- without an answer; no row where there is none. Holds count only where they expired. A follower counts with the query that
-- was asked, as it has no decision of its own.
WITH short AS MATERIALIZED (
    SELECT d.query_id, array_agg(DISTINCT d.move) AS moves
    FROM decisions AS d
    WHERE d.batch_id = ANY(CAST(:batch_ids AS bigint[]))
      AND d.codes && ARRAY['lowered', 'over_budget', 'budget_reserved']
    GROUP BY d.query_id
),
departed AS MATERIALIZED (
    SELECT q.batch_id, q.id, a.call_id
    FROM short
    JOIN queries AS q ON q.id = short.query_id AND NOT q.pilot
    JOIN pilots AS t ON t.batch_id = q.batch_id AND t.certificate ->> 'outcome' = 'certified'
    LEFT JOIN answers AS a ON a.query_id = q.id AND q.state = 'done'
    WHERE CASE q.state
          WHEN 'done' THEN short.moves && ARRAY['advance', 'finish']
                           AND q.tier IS DISTINCT FROM t.certificate -> 'tiers' ->> -1
          WHEN 'failed' THEN short.moves && ARRAY['advance', 'fail']
          ELSE q.state = 'expired' END
)
SELECT d.batch_id, count(*) + (
           SELECT count(*)
           FROM batches AS b
           JOIN answers AS a ON a.query_id BETWEEN b.first_query_id AND b.last_query_id
           WHERE b.id = d.batch_id AND a.call_id IN (SELECT call_id FROM departed WHERE call_id IS NOT NULL)
             AND a.query_id NOT IN (SELECT id FROM departed)) AS departures
FROM departed AS d
GROUP BY d.batch_id
