-- Provider batches whose next step is due are taken under a lease: a step that is not done in time is taken again, under
-- another epoch. That of a batch that was closed meanwhile is due at once. Of a tenant :share are under a lease at most,
-- and fewer than the :places of the workers that live, so that one provider that does not answer leaves a place to
-- others; of all tenants, which take turns, twice the places.
WITH places AS (
    SELECT :places * greatest(count(*), 1) AS most FROM workers
    WHERE stopped_at IS NULL AND :stage = ANY(string_to_array(role, ' '))
),
open AS (
    SELECT p.id, b.tenant, p.due_at, coalesce(p.lease_until >= now(), false) AS is_leased,
           CASE WHEN p.lease_until IS NULL
                THEN p.due_at <= now() OR (p.state = 'submitted' AND (b.cancelled_at IS NOT NULL OR b.ended_at IS NOT NULL))
                -- While Postgres was away nobody could renew a lease.
                ELSE p.lease_until < now() AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s)
           END AS is_due
    FROM provider_batches AS p
    JOIN batches AS b ON b.id = p.batch_id AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
    WHERE p.state <> 'done'
),
turns AS (
    SELECT o.id, o.is_due, o.is_leased, o.due_at, row_number() OVER (PARTITION BY o.tenant ORDER BY o.is_leased DESC, o.due_at, o.id) AS turn
    FROM open AS o WHERE o.is_leased OR o.is_due
),
chosen AS (
    SELECT t.id FROM turns AS t CROSS JOIN places AS p
    WHERE t.is_due AND t.turn <= least(:share, p.most - 1)
    ORDER BY t.turn, t.due_at, t.id
    LIMIT (SELECT greatest(2 * p.most - (SELECT count(*) FROM turns WHERE is_leased), 0) FROM places AS p)
)
UPDATE provider_batches AS p
SET epoch = p.epoch + 1, lease_until = now() + make_interval(secs => :lease_s)
FROM chosen AS c
WHERE p.id = c.id
  AND p.state <> 'done' AND (p.lease_until IS NULL OR p.lease_until < now())  -- else another feeder has taken it meanwhile
RETURNING p.id, p.epoch
