-- What the held queries of a batch still cost if each costs what the batch's ended queries did from their first answer at
-- the same tier on, a pilot's left out; null where some wait at a tier that no ended query asked.
WITH held AS (
    SELECT stage AS tier, count(*) AS queries
    FROM queries
    WHERE batch_id = :batch_id AND state = 'held' AND held_for IS NULL
    GROUP BY stage
),
first AS (
    SELECT c.query_id, c.tier, min(c.id) AS id
    FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id
    WHERE c.batch_id = :batch_id AND c.purpose = 'answer' AND q.state = 'done' AND NOT q.pilot
      AND c.tier IN (SELECT tier FROM held)
    GROUP BY c.query_id, c.tier
),
means AS (
    SELECT f.tier, sum(c.cost_usd) / count(DISTINCT f.query_id) AS usd
    FROM first AS f
    JOIN calls AS c ON c.batch_id = :batch_id AND c.query_id = f.query_id AND c.id >= f.id
    GROUP BY f.tier
)
SELECT CASE WHEN bool_and(m.usd IS NOT NULL) THEN sum(h.queries * m.usd) END AS usd
FROM held AS h
LEFT JOIN means AS m ON m.tier = h.tier
