-- Failed calls of a batch by kind, and how many of them were followed by a call to another deployment of the tier.
WITH failing AS (
    SELECT DISTINCT query_id
    FROM calls
    WHERE batch_id = :batch_id AND outcome <> 'ok' AND query_id IS NOT NULL
),
c AS (
    SELECT c.deployment, c.outcome,
           lead(c.deployment) OVER (PARTITION BY c.query_id, c.tier ORDER BY c.created_at, c.id) AS next
    FROM calls AS c
    JOIN failing ON failing.query_id = c.query_id
    WHERE c.batch_id = :batch_id AND c.purpose IN ('answer', 'hedge', 'extend')
)
SELECT deployment, outcome, count(*) AS calls,
       count(*) FILTER (WHERE next = deployment) AS tried_again,
       count(*) FILTER (WHERE next <> deployment) AS failed_over,
       coalesce(array_agg(DISTINCT next) FILTER (WHERE next <> deployment), '{}') AS went_to
FROM c
WHERE outcome <> 'ok'
GROUP BY deployment, outcome
ORDER BY calls DESC, deployment, outcome
