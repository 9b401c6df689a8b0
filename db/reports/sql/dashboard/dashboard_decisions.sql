-- Decisions within a period, counted by tenant, ten seconds, decision and, for the judge, confidence.
--
-- `confidence` is the number of a tenth: 0 for 0.0 up to 0.1, 9 for 0.9 up to 1, null without one (`least` would ignore
-- it). `reason` is the code of the first reason against an answer, else null. A sampled query goes on to every tier,
-- whatever it was answered: those verdicts and steps are of the kind `pilot`, and reject nothing.
SELECT d.bucket, b.tenant, d.kind, d.to_stage, d.to_state, d.tier, d.router, d.rejected, d.confidence, d.reason,
       sum(d.n)::bigint AS n
FROM (
    SELECT date_bin('10 seconds', at, 'epoch') AS bucket, batch_id, CASE WHEN sampled THEN 'pilot' ELSE kind END AS kind,
           to_stage, to_state, tier, CASE WHEN kind = 'route' THEN router END AS router,
           rejected AND NOT sampled AS rejected,
           CASE WHEN kind = 'judge' AND NOT sampled AND confidence IS NOT NULL
                THEN least(floor(confidence * 10), 9)::integer END AS confidence,
           CASE WHEN rejected AND NOT sampled THEN codes[1] END AS reason,
           count(*) AS n
    FROM (
        SELECT *, to_stage = 'fallback' AND from_stage <> 'fallback' AS rejected,
               kind IN ('judge', 'fallback') AND codes[1] IS NOT DISTINCT FROM 'pilot' AS sampled
        FROM decisions
        WHERE at >= :since AND at < :until
    ) AS d
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
) AS d
JOIN batches AS b ON b.id = d.batch_id
GROUP BY d.bucket, b.tenant, d.kind, d.to_stage, d.to_state, d.tier, d.router, d.rejected, d.confidence, d.reason
