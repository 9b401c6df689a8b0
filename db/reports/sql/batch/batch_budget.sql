-- The budget of a batch and today's budget of its tenant, if any; and what is held for the batch.
SELECT b.budget_policy AS policy, b.tenant,
       own.cap_usd, own.settled_usd, own.reserved_usd,
       day.cap_usd AS day_cap_usd, day.settled_usd AS day_settled_usd, day.reserved_usd AS day_reserved_usd,
       l.content AS price_list, b.plan -> 'answer_lengths' AS answer_lengths,
       held.queries AS held, held.least_usd AS held_least_usd, held.most_usd AS held_most_usd,
       held.needs_usd AS held_needs_usd
FROM batches AS b
JOIN price_lists AS l ON l.digest = b.price_list
LEFT JOIN budgets AS own ON own.batch_id = b.id
LEFT JOIN budgets AS day ON day.tenant = b.tenant AND day.day = CAST(now() AT TIME ZONE 'UTC' AS date)
CROSS JOIN LATERAL (
    SELECT count(*) AS queries, min(q.needs_usd) AS least_usd, max(q.needs_usd) AS most_usd,
           coalesce(sum(q.needs_usd), 0) AS needs_usd
    FROM queries AS q
    WHERE q.batch_id = b.id AND q.state = 'held' AND q.held_for IS NULL
) AS held
WHERE b.id = :batch_id
