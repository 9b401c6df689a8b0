-- Why the judge rejected answers of a batch, by tier: the codes of its reasons. Those of sampled queries go on
-- whatever they are.
SELECT d.tier, r.code AS reason, count(*) AS answers
FROM decisions AS d, unnest(d.codes) AS r (code)
WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.to_stage = 'fallback'
  AND d.codes[1] IS DISTINCT FROM 'pilot' AND r.code NOT IN ('confident', 'unchecked')
GROUP BY 1, 2
ORDER BY answers DESC, 1, 2
LIMIT :rows
