-- The progress of a batch: counts by state and tier, and the cost so far. A sampled query climbs every tier on purpose:
-- it is not escalated.
-- Reservations of open calls are apart: they are the worst case, many times the cost. `put_off` has what was released for
-- a later time, by stage, with the reason of one of them; `unserved` the stages whose queries no living worker takes; `lost` the queries of dead workers, whose leases still run.
WITH q AS MATERIALIZED (
    SELECT q.state, q.stage, q.tier, count(*) AS n, count(*) FILTER (WHERE q.due_at = 'infinity') AS later,
           count(*) FILTER (WHERE q.escalations > 0 AND NOT q.pilot) AS escalated,
           count(*) FILTER (WHERE q.pilot) AS sampled,
           count(*) FILTER (WHERE q.due_at > now() AND q.due_at < '9000-01-01') AS put_off,
           min(q.due_at) FILTER (WHERE q.due_at > now() AND q.due_at < '9000-01-01') AS due_at,
           min(q.id) FILTER (WHERE q.due_at > now() AND q.due_at < '9000-01-01') AS put_off_id
    FROM batches AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
    WHERE b.id = :batch_id
    GROUP BY q.state, q.stage, q.tier
),
counted AS (
    SELECT coalesce(sum(n) FILTER (WHERE state = 'done'), 0)::bigint AS done,
           coalesce(sum(n) FILTER (WHERE state = 'failed'), 0)::bigint AS failed,
           coalesce(sum(n) FILTER (WHERE state = 'dead'), 0)::bigint AS dead,
           coalesce(sum(n) FILTER (WHERE state = 'cancelled'), 0)::bigint AS cancelled,
           coalesce(sum(n) FILTER (WHERE state = 'expired'), 0)::bigint AS expired,
           coalesce(sum(n) FILTER (WHERE state = 'held'), 0)::bigint AS held,
           coalesce(sum(n) FILTER (WHERE state = 'running'), 0)::bigint AS running,
           coalesce(sum(n) FILTER (WHERE state = 'batched'), 0)::bigint AS batched,
           coalesce(sum(n) FILTER (WHERE state IN ('ready', 'queued')), 0)::bigint AS waiting,
           coalesce(sum(later) FILTER (WHERE state = 'ready'), 0)::bigint AS after_pilot,
           coalesce(sum(escalated), 0)::bigint AS escalated,
           coalesce(sum(sampled), 0)::bigint AS sampled,
           coalesce(sum(sampled) FILTER (WHERE state NOT IN ('batched', 'held', 'queued', 'ready', 'running')), 0)::bigint
               AS sampled_ended
    FROM q
),
accounts AS (
    SELECT jsonb_object_agg(h.held_for, jsonb_build_object('queries', h.n, 'provider', f.provider, 'reason', f.reason))
               AS held_for
    FROM (SELECT q.held_for, count(*) AS n FROM batches AS b
          JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
          WHERE b.id = :batch_id AND q.state = 'held' AND q.held_for IS NOT NULL
          GROUP BY q.held_for) AS h
    LEFT JOIN account_faults AS f ON f.deployment = h.held_for
),
put_off AS (
    SELECT jsonb_object_agg(w.stage, jsonb_build_object(
               'queries', w.n, 'until', w.due_at, 'reason', CASE WHEN w.awaits_wave THEN 'the next wave' ELSE d.reason END)) AS put_off
    FROM (SELECT stage, sum(put_off)::bigint AS n, min(due_at) AS due_at, min(put_off_id) AS query_id,
                 min(due_at) > now() + interval '90 s'
                     AND (SELECT deadline FROM batches WHERE id = :batch_id) IS NOT NULL AS awaits_wave
          FROM q WHERE state = 'ready' AND put_off > 0 GROUP BY stage) AS w
    LEFT JOIN LATERAL (
        SELECT d.detail ->> 'waits_for' AS reason FROM decisions AS d
        WHERE d.query_id = w.query_id AND d.kind = 'release' ORDER BY d.id DESC LIMIT 1
    ) AS d ON true
),
lost AS (
    SELECT count(*) AS lost, max(q.lease_until) AS lost_until
    FROM batches AS b
    JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id
    JOIN workers AS w ON w.id = q.worker_id
    WHERE b.id = :batch_id AND q.state = 'running'
      AND (w.stopped_at IS NOT NULL OR w.seen_at < now() - make_interval(secs => :seen_within_s))
),
unserved AS (
    SELECT coalesce(array_agg(DISTINCT q.stage), '{}') AS unserved
    FROM q
    WHERE q.state IN ('ready', 'queued') AND q.n > q.later AND NOT EXISTS (
        SELECT FROM workers AS w
        WHERE w.stopped_at IS NULL AND w.seen_at > now() - make_interval(secs => :seen_within_s)
          AND q.stage = ANY(string_to_array(w.role, ' ')))
),
tiers AS (
    SELECT jsonb_object_agg(tier, n) AS by_tier
    FROM (SELECT tier, sum(n)::bigint AS n FROM q WHERE state = 'done' AND tier IS NOT NULL GROUP BY tier) AS t
),
stages AS (
    SELECT jsonb_object_agg(stage, n) AS open_by_stage
    FROM (SELECT stage, sum(n)::bigint AS n FROM q
          WHERE state IN ('batched', 'held', 'queued', 'ready', 'running') GROUP BY stage) AS s
),
spent AS (
    SELECT count(*) AS calls, coalesce(sum(cost_usd), 0) AS cost_usd,
           coalesce(sum(reserved_usd) FILTER (WHERE cost_usd IS NULL), 0) AS reserved_usd,
           coalesce(sum(reserved_usd) FILTER (WHERE cost_usd IS NULL AND purpose IN ('audit', 'grade')), 0)
               AS reserved_audit_usd
    FROM calls
    WHERE batch_id = :batch_id
)
SELECT b.public_id, b.source, b.total, b.simulated, b.created_at, b.cancelled_at, b.paused_at, b.pause_code,
       b.ended_at, g.cap_usd,
       extract(epoch FROM coalesce(b.ended_at, now()) - b.created_at)::double precision AS wall_s,
       counted.*, spent.*,
       coalesce(tiers.by_tier, '{}') AS by_tier, coalesce(stages.open_by_stage, '{}') AS open_by_stage,
       (SELECT p.state FROM pilots AS p WHERE p.batch_id = b.id) AS pilot_state,
       coalesce(accounts.held_for, '{}') AS held_for, coalesce(put_off.put_off, '{}') AS put_off, unserved.unserved,
       lost.lost, lost.lost_until
FROM batches AS b
LEFT JOIN budgets AS g ON g.batch_id = b.id
CROSS JOIN counted
CROSS JOIN tiers
CROSS JOIN stages
CROSS JOIN accounts
CROSS JOIN put_off
CROSS JOIN lost
CROSS JOIN unserved
CROSS JOIN spent
WHERE b.id = :batch_id
