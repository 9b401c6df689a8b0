-- What the graders' calls of a batch have cost, those under way at their reservation.
SELECT count(*) AS calls, coalesce(sum(coalesce(cost_usd, reserved_usd)), 0) AS usd
FROM calls WHERE batch_id = :batch_id AND purpose = 'grade'
