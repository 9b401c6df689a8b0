-- Where the confidence of a batch's answers is from, by the tier that judged, and of how many it was calibrated: a
-- probability and no mere score. The scorer is, by its training; of the others a decision says what it was before.
-- Answers to sampled queries go on whatever they are: that does not count as passed on.
SELECT d.tier, coalesce(d.detail ->> 'source', 'none') AS source, count(*) AS judged,
       count(*) FILTER (WHERE d.detail ? 'raw' OR d.detail ->> 'source' = 'scorer') AS calibrated,
       count(*) FILTER (WHERE d.move <> 'finish' AND d.codes[1] IS DISTINCT FROM 'pilot') AS passed_on
FROM decisions AS d
WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.call_id IS NOT NULL
GROUP BY 1, 2
ORDER BY 1, 2
