-- Judged answers per tier, and how many of them were escalated, from the first few thousand of each batch.
SELECT d.tier, count(*) AS judged, count(*) FILTER (WHERE d.move = 'advance') AS passed
FROM unnest(CAST(:batch_ids AS bigint[])) AS b (id)
CROSS JOIN LATERAL (
    SELECT tier, move FROM decisions
    WHERE batch_id = b.id AND kind = 'judge' AND tier IS NOT NULL
    LIMIT :each
) AS d
GROUP BY d.tier
