-- The router that sent each query to the stage where it waits, and its first reason.
SELECT DISTINCT ON (d.query_id) d.query_id, d.router, d.codes[1] AS code, d.reasons[1] AS reason
FROM decisions AS d
WHERE d.query_id = ANY(CAST(:ids AS bigint[]))
  AND d.to_stage = :stage AND d.from_stage <> d.to_stage
ORDER BY d.query_id, d.id DESC
