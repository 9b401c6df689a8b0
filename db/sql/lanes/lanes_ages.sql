-- How long the newest provider batches of each provider took; what did not end by itself had not ended at that age.
SELECT a.provider, a.age_s, a.ended FROM (
    SELECT p.provider, p.outcome = 'ended' AS ended,
           extract(epoch FROM coalesce(p.cancelling_at, p.ended_at, now()) - p.submitted_at)::double precision AS age_s,
           row_number() OVER (PARTITION BY p.provider ORDER BY p.id DESC) AS place
    FROM provider_batches AS p
    JOIN batches AS b ON b.id = p.batch_id AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
    WHERE p.submitted_at IS NOT NULL AND p.outcome IS DISTINCT FROM 'failed'
) AS a
WHERE a.place <= 100
