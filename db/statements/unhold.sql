-- held → ready, as many per batch as its budgets have room for; the earliest first.
WITH held AS (
    SELECT b.id, b.tenant FROM batches AS b
    WHERE b.ended_at IS NULL AND EXISTS (
        SELECT 1 FROM queries AS q WHERE q.batch_id = b.id AND q.state = 'held')
),
room AS (
    SELECT h.id, min(floor((g.cap_usd - g.reserved_usd - g.settled_usd) / nullif(g.largest_usd, 0))) AS places
    FROM held AS h
    JOIN budgets AS g ON g.batch_id = h.id
        OR (g.tenant = h.tenant AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date))
    GROUP BY h.id
),
chosen AS (
    SELECT q.id FROM held AS h
    LEFT JOIN room AS r ON r.id = h.id
    CROSS JOIN LATERAL (
        SELECT w.id FROM queries AS w
        WHERE w.batch_id = h.id AND w.state = 'held'
        ORDER BY w.id
        LIMIT CAST(least(greatest(coalesce(r.places, 10000), 0), 10000) AS bigint)
    ) AS q
),
freed AS (
    UPDATE queries AS q SET state = 'ready', moved_at = now()
    FROM chosen WHERE q.id = chosen.id AND q.state = 'held'
    RETURNING q.id, q.batch_id, q.epoch, q.stage
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, reasons)
    SELECT batch_id, id, epoch, 'budget', 'unhold', stage, stage, 'ready', 'feeder',
           ARRAY['the budget has room again']
    FROM freed
)
SELECT count(*) FROM freed
