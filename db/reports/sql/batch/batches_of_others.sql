-- Open batches that these workers leave alone: made for real calls while the fleet simulates, or the reverse.
SELECT fleet, count(*) AS batches
FROM batches
WHERE ended_at IS NULL AND simulated <> :simulated
GROUP BY fleet
ORDER BY fleet
