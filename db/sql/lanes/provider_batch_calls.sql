-- Calls of a provider batch, each with its query as far as that still waits for it (epoch and state), and its text. As
-- many as have :bytes of texts together, and at least one; others have no body.
SELECT page.*, CASE WHEN fits THEN CAST(p.body AS text) END AS body, CASE WHEN fits THEN CAST(p.options AS text) END AS options
FROM (
    SELECT c.id AS call_id, c.created_at AS at, c.reserved_usd, c.deployment, c.outcome, c.left_out,
           q.epoch = c.epoch AND q.stage = c.tier AND q.state = ANY(CAST(:sources AS text[])) AS is_awaited,
           q.state = 'batched' AS is_batched,
           q.id, q.batch_id, q.epoch, q.crashes, q.tier, q.prefers, q.attempts, q.escalations,
           row_number() OVER in_order = 1 OR sum(p.bytes) OVER in_order <= CAST(:bytes AS bigint) AS fits,
           p.custom_id, b.budget_policy, q.was_lost, q.pilot, q.flex_tier,
           EXISTS (SELECT FROM pilots AS t WHERE t.batch_id = b.id AND t.state = 'decided') AND NOT q.pilot AS has_policy,
           CAST(coalesce(extract(epoch FROM b.expires_at - now()), 'Infinity') AS float8) AS expires_in_s,
           CAST(coalesce(extract(epoch FROM b.deadline - now()), 'Infinity') AS float8) AS deadline_in_s
    FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id
    JOIN prompts AS p ON p.query_id = q.id
    JOIN batches AS b ON b.id = q.batch_id
    WHERE c.provider_batch_id = :id AND c.id = ANY(CAST(:call_ids AS bigint[]))
    WINDOW in_order AS (ORDER BY c.id)
) AS page
JOIN prompts AS p ON p.query_id = page.id
ORDER BY call_id
