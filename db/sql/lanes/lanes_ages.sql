-- How long the newest provider batches of each provider took; what did not end by itself had not ended at that age.
WITH RECURSIVE providers AS (
    (SELECT provider FROM provider_batches ORDER BY provider LIMIT 1)
    UNION ALL
    SELECT (SELECT p.provider FROM provider_batches AS p WHERE p.provider > f.provider ORDER BY p.provider LIMIT 1)
    FROM providers AS f WHERE f.provider IS NOT NULL
)
SELECT f.provider, a.age_s, a.ended
FROM providers AS f
CROSS JOIN LATERAL (
    SELECT p.outcome = 'ended' AS ended,
           extract(epoch FROM coalesce(p.cancelling_at, p.ended_at, now()) - p.submitted_at)::double precision AS age_s
    FROM provider_batches AS p
    JOIN batches AS b ON b.id = p.batch_id AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
    WHERE p.provider = f.provider AND p.submitted_at IS NOT NULL AND p.outcome IS DISTINCT FROM 'failed'
    ORDER BY p.id DESC
    LIMIT :newest
) AS a
