-- The policies of decided pilots: one that was breached has none any more.
SELECT batch_id, floor, CAST(policy AS text) AS policy, weights, audit_share, breached_at
FROM pilots WHERE batch_id = ANY(CAST(:batch_ids AS bigint[])) AND state = 'decided'
