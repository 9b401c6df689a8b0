-- Why the judge rejected answers of a batch, by tier: the reasons' codes, without their details.
SELECT d.tier, btrim(split_part(r.reason, ':', 1)) AS reason, count(*) AS answers
FROM decisions AS d, unnest(d.reasons) AS r (reason)
WHERE d.batch_id = :batch_id AND d.kind = 'judge' AND d.to_stage = 'fallback'
  AND r.reason NOT LIKE 'unchecked:%'
GROUP BY 1, 2
ORDER BY answers DESC, 1, 2
LIMIT :rows
