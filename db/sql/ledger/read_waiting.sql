-- Those ids that still wait at the stage, with their texts as far as :bytes go, and at least one; others have no body.
-- Tenants have equal parts of the bytes: else those of the lowest ids would take them each time, and the others none.
-- Which of several first texts comes first is chance, so that each comes whatever the others are.
WITH waiting AS (
    SELECT q.id, q.batch_id, q.epoch, q.crashes, q.tier, q.prefers, q.attempts, q.escalations, q.was_lost, q.pilot,
           q.flex_tier, p.custom_id, p.body, p.options, p.bytes, b.budget_policy, b.expires_at, b.deadline,
           sum(p.bytes) OVER (PARTITION BY b.tenant ORDER BY q.id) - p.bytes AS bytes_before
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
)
SELECT w.id, w.batch_id, w.epoch, w.crashes, w.tier, w.prefers, w.attempts, w.escalations,
       CASE WHEN w.fits THEN CAST(w.body AS text) END AS body, CASE WHEN w.fits THEN CAST(w.options AS text) END AS options,
       w.custom_id, w.budget_policy, w.was_lost, w.pilot, w.flex_tier,
       EXISTS (SELECT FROM pilots AS t WHERE t.batch_id = w.batch_id AND t.state = 'decided')
           AND NOT w.pilot AS has_policy,
       CAST(coalesce(extract(epoch FROM w.expires_at - now()), 'Infinity') AS float8) AS expires_in_s,
       CAST(coalesce(extract(epoch FROM w.deadline - now()), 'Infinity') AS float8) AS deadline_in_s
FROM (
    SELECT c.*, sum(c.bytes) OVER in_turn <= CAST(:bytes AS bigint) OR row_number() OVER in_turn = 1 AS fits
    FROM (SELECT *, random() AS chance FROM waiting) AS c
    WINDOW in_turn AS (ORDER BY c.bytes_before, c.chance ROWS UNBOUNDED PRECEDING)
) AS w
ORDER BY w.id
