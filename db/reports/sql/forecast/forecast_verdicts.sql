-- Judged answers per tier, and how many of them were escalated, of a sample of earlier queries. A pilot's climb on purpose,
-- and a certified policy's by a certificate of their batch alone: neither says what the fleet's judge doubts.
SELECT d.tier, count(*) AS judged, count(*) FILTER (WHERE d.move = 'advance') AS passed
FROM unnest(CAST(:query_ids AS bigint[])) AS q (id)
CROSS JOIN LATERAL (
    SELECT batch_id, tier, move FROM decisions
    WHERE query_id = q.id AND kind = 'judge' AND tier IS NOT NULL
      AND coalesce(codes[1], '') NOT IN ('pilot', 'quality_policy')
    OFFSET 0  -- or all decisions of the batches would be read
) AS d
WHERE d.batch_id = ANY(CAST(:batch_ids AS bigint[]))
GROUP BY d.tier
