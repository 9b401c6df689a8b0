-- Why the judge rejected answers of a batch, by tier: the codes of its reasons.
SELECT d.tier, r.code AS reason, count(*) AS answers
FROM decisions AS d, unnest(d.codes) AS r (code)
WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.to_stage = 'fallback'
  AND r.code <> 'unchecked'
GROUP BY 1, 2
ORDER BY answers DESC, 1, 2
LIMIT :rows
