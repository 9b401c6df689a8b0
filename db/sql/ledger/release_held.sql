-- held → ready, as many per batch and tenant as fit their budgets, about 10,000 of a tenant at once; the smallest
-- reservations first, so that as many as possible are answered, and a tenant's batches in turn. Also those that can never
-- fit and that the policy of their batch lowers or fails: a claim does that. A query that waits for an account is released
-- once a call of that deployment has succeeded since, or the fleet no longer has it; before that, one query at a time is
-- released as a probe. One that asked for more than the credit of the account pays for is released at a probe's time only,
-- as the probe, or once a call that reserved as much has succeeded since the last.
WITH held AS (
    SELECT b.id, b.tenant, b.first_query_id, b.last_query_id FROM batches AS b
    WHERE b.ended_at IS NULL AND EXISTS (
        SELECT 1 FROM queries AS q WHERE q.batch_id = b.id AND q.state = 'held')
),
faults AS (
    SELECT f.deployment, x.is_gone OR EXISTS (
               SELECT 1 FROM calls AS c
               -- Not further back: a fault may stay for a day, where one query costs more than the account's credit.
               WHERE c.finished_at > greatest(f.failed_at, now() - interval '2 minutes')
                 AND c.created_at > f.failed_at - interval '1 day'
                 AND c.deployment = f.deployment AND c.outcome = 'ok') AS is_over,
           x.is_due,
           CASE WHEN x.is_gone THEN 'Infinity' ELSE (
               SELECT max(c.reserved_usd) FROM calls AS c
               WHERE x.is_due AND c.finished_at > f.tried_at AND c.created_at > f.tried_at - interval '1 day'
                 AND c.deployment = f.deployment AND c.outcome = 'ok') END AS paid_usd
    FROM account_faults AS f
    CROSS JOIN LATERAL (SELECT coalesce(f.deployment <> ALL(CAST(:deployments AS text[])), false) AS is_gone,
                               f.tried_at < now() - make_interval(secs => :probe_s) AS is_due) AS x
),
-- What was released within a minute and is not claimed yet: no budget holds its reservation before. Else each look
-- would release as much again, until all is, and the claims would hold it again, with two decisions each.
released AS MATERIALIZED (
    SELECT q.batch_id, b.tenant, q.needs_usd
    FROM queries AS q JOIN batches AS b ON b.id = q.batch_id
    WHERE q.needs_usd IS NOT NULL AND q.state IN ('ready', 'queued') AND q.moved_at > now() - interval '1 minute'
),
-- By budget, once: a tenant may have many batches with held queries, and to read all that is released for each takes two
-- seconds with a thousand.
promised AS MATERIALIZED (
    SELECT g.id, sum(r.needs_usd) AS usd
    FROM released AS r
    CROSS JOIN LATERAL (
        SELECT id, cap_usd - settled_usd AS unspent_usd FROM budgets WHERE batch_id = r.batch_id
        UNION ALL
        SELECT id, cap_usd - settled_usd FROM budgets
        WHERE tenant = r.tenant AND day = CAST(now() AT TIME ZONE 'UTC' AS date)
    ) AS g
    WHERE r.needs_usd <= g.unspent_usd
    GROUP BY g.id
),
room AS (
    SELECT h.id, h.tenant, own.left_usd AS own_usd, day.left_usd AS day_usd,
           coalesce(least(own.left_usd, day.left_usd), 'Infinity') AS left_usd,
           coalesce(least(own.unspent_usd, day.unspent_usd), 'Infinity') AS unspent_usd,
           1 + 10000 / count(*) OVER (PARTITION BY h.tenant) AS most
    FROM held AS h
    LEFT JOIN LATERAL (
        SELECT g.cap_usd - g.reserved_usd - g.settled_usd - coalesce(p.usd, 0) AS left_usd,
               g.cap_usd - g.settled_usd AS unspent_usd
        FROM budgets AS g LEFT JOIN promised AS p ON p.id = g.id
        WHERE g.batch_id = h.id
    ) AS own ON true
    LEFT JOIN LATERAL (
        SELECT g.cap_usd - g.reserved_usd - g.settled_usd - coalesce(p.usd, 0) AS left_usd,
               g.cap_usd - g.settled_usd AS unspent_usd
        FROM budgets AS g LEFT JOIN promised AS p ON p.id = g.id
        WHERE g.tenant = h.tenant AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date)
    ) AS day ON true
),
fitting AS (
    SELECT r.tenant, r.day_usd, q.* FROM room AS r
    CROSS JOIN LATERAL (
        SELECT w.id, w.needs_usd, row_number() OVER smallest AS turn, sum(w.needs_usd) OVER smallest AS usd
        FROM (
            SELECT id, coalesce(needs_usd, 0) AS needs_usd FROM queries
            WHERE batch_id = r.id AND state = 'held' AND held_for IS NULL AND (needs_usd IS NULL OR needs_usd <= r.left_usd)
            ORDER BY needs_usd, id
            LIMIT r.most
        ) AS w
        WINDOW smallest AS (ORDER BY w.needs_usd, w.id)
    ) AS q
    WHERE q.usd <= coalesce(r.own_usd, 'Infinity')
),
chosen AS (
    SELECT q.id FROM (
        SELECT f.id, f.day_usd, sum(f.needs_usd) OVER (PARTITION BY f.tenant ORDER BY f.turn, f.needs_usd, f.id) AS usd
        FROM fitting AS f
    ) AS q
    WHERE q.usd <= coalesce(q.day_usd, 'Infinity')
    UNION
    SELECT q.id FROM room AS r
    CROSS JOIN LATERAL (
        SELECT w.id FROM queries AS w
        WHERE w.batch_id = r.id AND w.state = 'held' AND w.yields AND w.needs_usd > r.unspent_usd
        ORDER BY w.needs_usd, w.id
        LIMIT r.most
    ) AS q
    UNION
    SELECT q.id FROM faults AS f
    CROSS JOIN LATERAL (
        SELECT w.id FROM queries AS w
        WHERE w.state = 'held' AND w.held_for = f.deployment AND w.needs_usd IS NULL
        ORDER BY w.id
        LIMIT CASE WHEN f.is_over THEN 10000 ELSE 0 END
    ) AS q
    UNION
    SELECT q.id FROM faults AS f
    CROSS JOIN LATERAL (
        SELECT w.id FROM queries AS w
        WHERE w.state = 'held' AND w.held_for = f.deployment AND w.needs_usd <= f.paid_usd
        ORDER BY w.needs_usd
        LIMIT 10000
    ) AS q
    UNION
    -- Any tenant's, and of its queries the one that has been held longest: what one asks for may be why it is refused. Of
    -- a batch the first thousand take turns: a million of them would be read and sorted for each probe.
    SELECT q.id FROM faults AS f
    CROSS JOIN LATERAL (
        SELECT w.id FROM held AS h
        CROSS JOIN LATERAL (
            SELECT n.id, n.moved_at FROM queries AS n
            WHERE f.is_due AND (NOT f.is_over OR n.needs_usd IS NOT NULL)
              AND n.state = 'held' AND n.held_for = f.deployment
              AND n.id BETWEEN h.first_query_id AND h.last_query_id AND n.batch_id = h.id
            ORDER BY n.id
            LIMIT 1000
        ) AS w
        ORDER BY row_number() OVER (PARTITION BY h.tenant ORDER BY w.moved_at, w.id), random()
        LIMIT 1
    ) AS q
),
tried AS (
    UPDATE account_faults AS a SET tried_at = now()
    FROM faults AS f WHERE a.deployment = f.deployment AND f.is_due
),
over AS (
    DELETE FROM account_faults AS a USING faults AS f
    WHERE a.deployment = f.deployment AND f.is_over AND NOT f.is_due
      AND NOT EXISTS (SELECT 1 FROM queries AS q WHERE q.state = 'held' AND q.held_for = f.deployment)
),
freed AS (
    UPDATE queries AS q SET state = 'ready', moved_at = now(), held_for = NULL
    FROM queries AS before, chosen
    WHERE q.id = chosen.id AND before.id = q.id AND q.state = 'held'
    RETURNING q.id, q.batch_id, q.epoch, q.stage, q.needs_usd, before.held_for
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT f.batch_id, f.id, f.epoch, 'budget', 'unhold', f.stage, f.stage, 'ready', 'feeder',
           ARRAY[CASE WHEN f.held_for IS NOT NULL THEN 'account'
                      WHEN f.needs_usd > r.unspent_usd THEN 'over_budget' ELSE 'within_budget' END],
           ARRAY[CASE WHEN f.held_for IS NOT NULL THEN 'calls ' || f.held_for || ' again'
                      WHEN f.needs_usd > r.unspent_usd THEN 'the rest of the budget is less than its reservation'
                      ELSE 'its reservation fits the budget again' END]
    FROM freed AS f JOIN room AS r ON r.id = f.batch_id
)
SELECT count(*) FROM freed
