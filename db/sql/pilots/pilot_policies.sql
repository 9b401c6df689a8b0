-- The policies of decided pilots: one that was breached has none any more.
SELECT batch_id, floor, CAST(policy AS text) AS policy, audit_share, breached_at,
       CASE WHEN batch_id <> ALL(CAST(:known AS bigint[])) THEN weights END AS weights
FROM pilots WHERE batch_id = ANY(CAST(:batch_ids AS bigint[])) AND state = 'decided'
