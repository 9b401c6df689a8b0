-- Per tier of a batch: the queries it answered, those it passed up, its calls, their cost and latency, and how many calls
-- ended by their length.
WITH c AS MATERIALIZED (
    SELECT id, query_id, tier, outcome, model, coalesce(cost_usd, reserved_usd) AS cost_usd, latency_ms, finish_reason
    FROM calls
    WHERE batch_id = :batch_id AND purpose <> 'route'
),
called AS (
    SELECT tier, count(*) AS calls, count(*) FILTER (WHERE outcome <> 'ok') AS failed_calls,
           count(*) FILTER (WHERE finish_reason = 'length') AS cut_calls, count(DISTINCT query_id) AS queries,
           sum(cost_usd) AS cost_usd, array_agg(DISTINCT model) AS models,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY latency_ms)
               FILTER (WHERE outcome = 'ok') AS latency_ms
    FROM c
    GROUP BY tier
),
answered AS (
    SELECT a.tier, count(*) AS answered, count(*) FILTER (WHERE NOT a.accepted) AS unaccepted,
           avg(a.confidence) AS confidence
    FROM batches AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND q.state = 'done'
    JOIN answers AS a ON a.query_id = q.id
    WHERE b.id = :batch_id
    GROUP BY a.tier
)
SELECT coalesce(called.tier, answered.tier) AS tier,
       coalesce(called.queries, 0) AS queries, coalesce(answered.answered, 0) AS answered,
       coalesce(answered.unaccepted, 0) AS unaccepted, answered.confidence,
       coalesce(called.calls, 0) AS calls, coalesce(called.failed_calls, 0) AS failed_calls,
       coalesce(called.cost_usd, 0) AS cost_usd, coalesce(called.models, '{}') AS models, called.latency_ms,
       coalesce(called.cut_calls, 0) AS cut_calls
FROM called
FULL JOIN answered ON answered.tier = called.tier
