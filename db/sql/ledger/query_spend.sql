-- The cost of each query so far; a call without an outcome counts at its reservation.
SELECT c.query_id, sum(coalesce(c.cost_usd, c.reserved_usd)) AS usd
FROM calls AS c
WHERE c.query_id = ANY(CAST(:ids AS bigint[]))
GROUP BY c.query_id
