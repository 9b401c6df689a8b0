-- workload_sums has these rows of the batch.
INSERT INTO workload_sums (batch_id, workload, router, version, tier, answers, cost_usd, baseline_usd)
SELECT :batch_id, r.workload, r.router, r.version, r.tier, r.answers, r.cost_usd, r.baseline_usd
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
    workload text, router text, version text, tier text, answers bigint, cost_usd numeric, baseline_usd numeric)
