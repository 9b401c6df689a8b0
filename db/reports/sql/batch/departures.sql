-- Of the given batches: how many queries a budget kept from their policy, answered below the top tier (`lowered`) or ended
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
    SELECT q.batch_id, q.id, a.call_id, q.state = 'done' AS is_answered
    FROM short
    JOIN queries AS q ON q.id = short.query_id AND NOT q.pilot
    JOIN batches AS b ON b.id = q.batch_id
    JOIN price_lists AS l ON l.digest = b.price_list
    LEFT JOIN answers AS a ON a.query_id = q.id AND q.state = 'done'
    WHERE CASE q.state
          WHEN 'done' THEN short.moves && ARRAY['advance', 'finish']
                           AND q.tier IS DISTINCT FROM l.content -> 'ladder' ->> -1
          WHEN 'failed' THEN short.moves && ARRAY['advance', 'fail']
          ELSE q.state = 'expired' END
),
counted AS (
    SELECT batch_id, count(*) AS queries, count(*) FILTER (WHERE is_answered) AS answered
    FROM departed
    GROUP BY batch_id
)
SELECT c.batch_id, c.queries + f.followers AS departures, c.answered + f.followers AS lowered
FROM counted AS c
CROSS JOIN LATERAL (
    SELECT count(*) AS followers
    FROM batches AS b
    JOIN answers AS a ON a.query_id BETWEEN b.first_query_id AND b.last_query_id
    WHERE b.id = c.batch_id AND a.call_id IN (SELECT call_id FROM departed WHERE call_id IS NOT NULL)
      AND a.query_id NOT IN (SELECT id FROM departed)
) AS f
