-- What the held queries of a batch still cost if each costs what the batch's ended queries did from their first answer at
-- the same tier on, a pilot's left out; null where some wait at a tier that no ended query asked.
WITH held AS (
    SELECT stage AS tier, count(*) AS queries
    FROM queries
    WHERE batch_id = :batch_id AND state = 'held' AND held_for IS NULL
    GROUP BY stage
),
costs AS (  -- in one pass over the calls: joined with themselves, a young table's would be searched once per query
    SELECT c.query_id, c.tier, c.purpose,
           sum(c.cost_usd) OVER (PARTITION BY c.query_id ORDER BY c.created_at DESC, c.id DESC) AS from_here_usd
    FROM calls AS c
    JOIN queries AS q ON q.id = c.query_id
    WHERE c.batch_id = :batch_id AND q.state = 'done' AND NOT q.pilot
),
firsts AS (
    SELECT tier, max(from_here_usd) AS usd FROM costs WHERE purpose = 'answer' GROUP BY query_id, tier
),
means AS (
    SELECT tier, avg(usd) AS usd FROM firsts GROUP BY tier
)
SELECT CASE WHEN bool_and(m.usd IS NOT NULL) THEN sum(h.queries * m.usd) END AS usd
FROM held AS h
LEFT JOIN means AS m ON m.tier = h.tier
