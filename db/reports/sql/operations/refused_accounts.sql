-- Deployments with an account that the provider refuses, with the queries that wait for them.
SELECT q.held_for AS deployment, f.provider, f.reason, count(*) AS queries
FROM queries AS q
LEFT JOIN account_faults AS f ON f.deployment = q.held_for
WHERE q.state = 'held' AND q.held_for IS NOT NULL
GROUP BY q.held_for, f.provider, f.reason
ORDER BY count(*) DESC, q.held_for
