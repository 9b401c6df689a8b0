-- Verdicts of the judge in a batch, by the source of the confidence and its tenth, and its verdict on the next answer
-- to the same query, if any.
WITH judged AS (
    SELECT d.query_id, d.tier, d.confidence, d.move <> 'finish' AS rejected, d.detail ->> 'source' AS source,
           lead(d.move) OVER next AS next_move, lead(d.confidence) OVER next AS next_confidence
    FROM decisions AS d
    WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.call_id IS NOT NULL
    WINDOW next AS (PARTITION BY d.query_id ORDER BY d.id)
)
SELECT coalesce(source, 'none') AS source,
       CASE WHEN confidence IS NOT NULL THEN least(greatest(floor(confidence * 10), 0), 9)::integer END AS tenth,
       count(*) AS judged, coalesce(sum(confidence), 0) AS confidence,
       count(*) FILTER (WHERE rejected) AS rejected,
       count(*) FILTER (WHERE rejected AND next_move IS NOT NULL) AS followed,
       count(*) FILTER (WHERE rejected AND next_move = 'finish') AS next_stood
FROM judged
GROUP BY 1, 2
