-- Sets the cap of a batch. If it had none, earlier costs and reservations count from now on.
WITH fresh AS (
    SELECT nextval('budgets_id_seq') AS id
    WHERE NOT EXISTS (SELECT 1 FROM budgets AS g WHERE g.batch_id = :batch_id)
),
raised AS (
    UPDATE budgets SET cap_usd = :cap_usd WHERE batch_id = :batch_id
),
open AS (
    UPDATE calls AS c SET budget_ids = c.budget_ids || fresh.id
    FROM fresh
    WHERE c.batch_id = :batch_id AND c.outcome IS NULL
    RETURNING c.reserved_usd
)
INSERT INTO budgets (id, batch_id, cap_usd, reserved_usd, settled_usd)
SELECT fresh.id, :batch_id, :cap_usd, (SELECT coalesce(sum(reserved_usd), 0) FROM open),
       (SELECT coalesce(sum(cost_usd), 0) FROM calls WHERE batch_id = :batch_id AND outcome IS NOT NULL)
FROM fresh
ON CONFLICT (batch_id) DO UPDATE SET cap_usd = excluded.cap_usd
