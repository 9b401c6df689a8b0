-- Those ids that still wait at the stage, with their texts as far as :bytes go, and at least one; others have no body.
SELECT q.id, q.batch_id, q.epoch, q.crashes, q.tier, q.prefers, q.attempts, q.escalations,
       CASE WHEN row_number() OVER in_order = 1 OR CAST(:bytes AS bigint) >= sum(
               octet_length(CAST(p.body AS text)) + coalesce(octet_length(CAST(p.options AS text)), 0)) OVER in_order
            THEN CAST(p.body AS text) END AS body, CAST(p.options AS text) AS options,
       p.custom_id, b.budget_policy, q.was_lost, q.pilot, q.flex_tier,
       EXISTS (SELECT FROM pilots AS t WHERE t.batch_id = b.id AND t.state = 'decided') AND NOT q.pilot AS has_policy,
       CAST(coalesce(extract(epoch FROM b.expires_at - now()), 'Infinity') AS float8) AS expires_in_s,
       CAST(coalesce(extract(epoch FROM b.deadline - now()), 'Infinity') AS float8) AS deadline_in_s
FROM queries AS q
JOIN prompts AS p ON p.query_id = q.id
JOIN batches AS b ON b.id = q.batch_id
WHERE q.id = ANY(CAST(:ids AS bigint[]))
  AND q.stage = :stage
  AND q.state = ANY(CAST(:sources AS text[]))
  AND q.due_at <= now()
  AND b.cancelled_at IS NULL AND b.paused_at IS NULL
  -- A real query never gets a simulated answer, and a simulated one never costs money.
  AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
WINDOW in_order AS (ORDER BY q.id)
ORDER BY q.id
