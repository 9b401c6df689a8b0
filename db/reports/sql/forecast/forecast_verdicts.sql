-- Judged answers per tier, and how many of them the fleet's judge rejected, of a sample of earlier queries.
--
-- A pilot's queries climb on purpose, and a certified policy's by the certificate of their batch: there the first code says
-- so, and the others are the judge's own verdict, which rejects unless all of them are `beside` one. Without those verdicts
-- the rejections by a validator, where no certificate decides, would be all that such a batch shows.
SELECT d.tier, count(*) AS judged,
       count(*) FILTER (WHERE CASE WHEN codes[1] IN ('pilot', 'quality_policy')
                                   THEN NOT codes[2:] <@ CAST(:beside AS text[]) ELSE move = 'advance' END) AS passed
FROM unnest(CAST(:query_ids AS bigint[])) AS q (id)
CROSS JOIN LATERAL (
    SELECT batch_id, tier, move, codes FROM decisions
    WHERE query_id = q.id AND kind = 'judge' AND tier IS NOT NULL
    OFFSET 0  -- or all decisions of the batches would be read
) AS d
WHERE d.batch_id = ANY(CAST(:batch_ids AS bigint[]))
GROUP BY d.tier
