-- Why a batch of one is held for an account: the fault of the deployment that it waits for.
SELECT q.held_for, f.provider, f.reason
FROM batches AS b
JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
LEFT JOIN account_faults AS f ON f.deployment = q.held_for
WHERE b.id = :batch_id AND q.state = 'held' AND q.held_for IS NOT NULL
LIMIT 1
