-- Expired leases: back to ready, or dead after too many crashes. Idle until Postgres has been up for one lease: no
-- worker could renew or finish while it was unavailable.
WITH expired AS (
    SELECT id FROM queries
    WHERE state = 'running' AND lease_until < :as_of
      AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s)
    ORDER BY id
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
),
rescued AS (
    UPDATE queries AS q
    SET crashes = q.crashes + 1,
        state = CASE WHEN q.crashes + 1 >= :max_crashes THEN 'dead' ELSE 'ready' END,
        finished_at = CASE WHEN q.crashes + 1 >= :max_crashes THEN now() END,
        lease_until = NULL, moved_at = now()
    FROM expired
    WHERE q.id = expired.id
    RETURNING q.id, q.batch_id, q.epoch, q.stage, q.state, q.crashes
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, codes,
                           reasons)
    SELECT batch_id, id, epoch, 'rescue', CASE state WHEN 'dead' THEN 'bury' ELSE 'rescue' END,
           stage, stage, state, 'feeder',
           ARRAY['lease_expired'],
           ARRAY['lease expired: the worker that held it was lost (' || crashes || ' of ' || :max_crashes || ')']
    FROM rescued
)
SELECT count(*) FILTER (WHERE state = 'ready') AS rescued, count(*) FILTER (WHERE state = 'dead') AS buried
FROM rescued
