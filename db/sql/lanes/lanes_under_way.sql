-- Provider batches that are worked on at their providers, or that these are asked to stop, of batches with a deadline.
-- Tenants take turns, in any order, and of a tenant any comes first: a round may not come to all.
SELECT p.id, p.batch_id, p.tier, p.state, extract(epoch FROM now() - p.submitted_at)::double precision AS age_s
FROM provider_batches AS p
JOIN batches AS b ON b.id = p.batch_id AND b.deadline IS NOT NULL AND b.ended_at IS NULL AND b.paused_at IS NULL
    AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
WHERE p.state IN ('submitted', 'cancelling') AND p.given_up_at IS NULL
ORDER BY row_number() OVER (PARTITION BY b.tenant ORDER BY random()), random()
