-- A batch's cap. Where it had none so far, what was spent and reserved before counts from now on.
WITH open AS (
    UPDATE calls SET budgeted = true
    WHERE batch_id = :batch_id AND outcome IS NULL AND NOT budgeted
      AND NOT EXISTS (SELECT 1 FROM budgets AS g WHERE g.batch_id = :batch_id)
    RETURNING reserved_usd
)
INSERT INTO budgets (batch_id, cap_usd, reserved_usd, settled_usd)
SELECT :batch_id, :cap_usd, (SELECT coalesce(sum(reserved_usd), 0) FROM open),
       (SELECT coalesce(sum(cost_usd), 0) FROM calls WHERE batch_id = :batch_id AND outcome IS NOT NULL)
ON CONFLICT (batch_id) DO UPDATE SET cap_usd = excluded.cap_usd
