-- Batches that workload_sums is to be filled with, the newest first: those that ended, and open ones with a decided pilot,
-- once. What ended with a floor is filled in again after two minutes: audits end after it.
(SELECT b.public_id
 FROM batches AS b
 WHERE b.ended_at IS NOT NULL AND (b.summed_at IS NULL OR b.summed_at <= b.ended_at)
   AND b.source <> '/v1/chat/completions' AND (b.summed_at IS NULL OR now() > b.ended_at + interval '2 minutes')
 ORDER BY b.id DESC
 LIMIT :rows)
UNION ALL
SELECT b.public_id
FROM batches AS b
JOIN pilots AS t ON t.batch_id = b.id AND t.state = 'decided'
WHERE b.ended_at IS NULL AND b.summed_at IS NULL
