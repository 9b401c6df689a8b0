-- Queries that may join a provider batch, with their texts, in the order in which they are due: as many as have :bytes of
-- texts together, and at least one. A tier tries this lane `most_tries` times per query.
-- `refused`: the fields that earlier lines of the query at the deployment were refused for.
SELECT id, batch_id, epoch, crashes, tier, prefers, attempts, escalations,
       CAST(body AS text) AS body, CAST(options AS text) AS options,
       custom_id, budget_policy, was_lost, pilot, flex_tier, has_policy, expires_in_s, deadline_in_s, due_at, refused
FROM (
    SELECT waiting.*, row_number() OVER in_order AS place, sum(bytes) OVER in_order AS bytes_so_far
    FROM (
        SELECT q.id, q.batch_id, q.epoch, q.crashes, q.tier, q.prefers, q.attempts, q.escalations, p.body, p.options,
               p.bytes, p.custom_id, b.budget_policy, q.was_lost, q.pilot, q.flex_tier,
               EXISTS (SELECT FROM pilots AS t WHERE t.batch_id = b.id AND t.state = 'decided') AND NOT q.pilot
                   AS has_policy,
               CAST(coalesce(extract(epoch FROM b.expires_at - now()), 'Infinity') AS float8) AS expires_in_s,
               CAST(coalesce(extract(epoch FROM b.deadline - now()), 'Infinity') AS float8) AS deadline_in_s,
               q.due_at, tried.refused
        FROM queries AS q
        JOIN prompts AS p ON p.query_id = q.id
        JOIN batches AS b ON b.id = q.batch_id AND b.cancelled_at IS NULL AND b.ended_at IS NULL
        CROSS JOIN LATERAL (
            SELECT count(*) AS times, array_agg(DISTINCT c.param) FILTER (
                WHERE c.deployment = :deployment AND c.outcome = 'not_run' AND c.param IS NOT NULL) AS refused
            FROM calls AS c
            WHERE c.query_id = q.id AND c.provider_batch_id IS NOT NULL AND c.tier = q.stage
        ) AS tried
        WHERE q.stage = :tier AND q.state = 'ready' AND q.batch_id = :batch_id AND NOT q.pilot
          AND q.due_at > now() + make_interval(secs => :margin_s) AND q.due_at < '9000-01-01'
          AND (q.due_at, q.id) > (coalesce(CAST(:after_due AS timestamptz), '-infinity'), :after_id)
          AND tried.times < :most_tries
        ORDER BY q.due_at, q.id
        LIMIT :most
    ) AS waiting
    WINDOW in_order AS (ORDER BY due_at, id)
) AS page
WHERE place = 1 OR bytes_so_far <= :bytes
ORDER BY due_at, id
