-- Repairs at a tier of the tenant and fleet of a batch, for one workload, among the newest of all repairs there: how
-- many were made, and of how many the answer was accepted. A pilot's are left out: its queries climb by order.
SELECT count(*) AS made, count(*) FILTER (WHERE d.move = 'finish') AS stood
FROM (
    SELECT id, query_id, batch_id
    FROM calls
    WHERE purpose = 'repair' AND tier = :tier AND outcome = 'ok'
    ORDER BY id DESC
    LIMIT :newest
) AS c
JOIN batches AS mine ON mine.id = :batch_id
JOIN batches AS b ON b.id = c.batch_id AND b.tenant = mine.tenant AND (b.fleet = mine.fleet OR b.price_list = mine.price_list)
                 AND b.simulated = mine.simulated
CROSS JOIN LATERAL (
    SELECT move, codes
    FROM decisions
    WHERE query_id = c.query_id AND kind = 'judge' AND call_id = c.id
    LIMIT 1
) AS d
CROSS JOIN LATERAL (
    SELECT coalesce(detail ->> 'workload', '') AS workload
    FROM decisions
    WHERE query_id = c.query_id AND kind = 'route'
    ORDER BY id DESC
    LIMIT 1
) AS r
WHERE r.workload = :workload AND NOT 'pilot' = ANY(d.codes)
