-- Why the judge rejected answers of a batch, by tier: the codes of its reasons, without those `beside` a verdict. Sampled
-- queries go on whatever they are, and where a certified policy decides, the fleet's threshold does not.
SELECT d.tier, r.code AS reason, count(*) AS answers
FROM decisions AS d, unnest(d.codes) AS r (code)
WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.to_stage = 'fallback'
  AND d.codes[1] IS DISTINCT FROM 'pilot' AND NOT (r.code = ANY(CAST(:beside AS text[])))
  AND NOT (r.code = 'low_confidence' AND d.codes[1] = 'quality_policy')
GROUP BY 1, 2
ORDER BY answers DESC, 1, 2
LIMIT :rows
