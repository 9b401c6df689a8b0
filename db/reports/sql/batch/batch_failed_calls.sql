-- Failed calls of a batch by kind and cause; of those for answers, how many were followed by a call to the same or to
-- another deployment of the tier.
WITH failing AS (
    SELECT DISTINCT query_id
    FROM calls
    WHERE batch_id = :batch_id AND outcome <> 'ok' AND query_id IS NOT NULL
),
c AS (
    SELECT c.deployment, c.outcome, c.status, c.cause, c.param,
           lead(c.deployment) OVER (PARTITION BY c.query_id, c.tier ORDER BY c.created_at, c.id) AS next
    FROM calls AS c
    JOIN failing ON failing.query_id = c.query_id
    WHERE c.batch_id = :batch_id AND c.purpose IN ('answer', 'embed', 'hedge', 'extend')
    UNION ALL
    SELECT deployment, outcome, status, cause, param, NULL
    FROM calls
    WHERE batch_id = :batch_id AND outcome <> 'ok' AND purpose NOT IN ('answer', 'embed', 'hedge', 'extend')
)
SELECT deployment, outcome, status, cause, param, count(*) AS calls,
       count(*) FILTER (WHERE next = deployment) AS tried_again,
       count(*) FILTER (WHERE next <> deployment) AS failed_over,
       coalesce(array_agg(DISTINCT next) FILTER (WHERE next <> deployment), '{}') AS went_to
FROM c
WHERE outcome <> 'ok'
GROUP BY deployment, outcome, status, cause, param
ORDER BY calls DESC, deployment, outcome, status, cause, param
