-- The newest provider batches of a batch. Their age is the time since they were submitted, until they were over.
SELECT p.id, p.tier, p.deployment, p.provider, p.remote_id, p.state, p.outcome, p.queries, p.answered,
       extract(epoch FROM coalesce(p.ended_at, p.done_at, now()) - coalesce(p.submitted_at, p.created_at))::double precision
           AS age_s,
       CASE WHEN p.state IN ('submitted', 'cancelling')
            THEN extract(epoch FROM p.give_up_at - now())::double precision END AS waits_s,
       p.given_up_at IS NOT NULL AS is_given_up,
       CASE WHEN p.state IN ('submitted', 'cancelling') THEN coalesce(p.verdict, p.reason)
            ELSE coalesce(p.cause, p.reason) END AS why
FROM provider_batches AS p
WHERE p.batch_id = :batch_id AND p.outcome IS DISTINCT FROM 'empty'
ORDER BY p.id DESC
LIMIT :rows
