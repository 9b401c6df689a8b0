-- Expired leases, or where :dead is given those of these workers: back to ready, or dead after too many crashes. No
-- lease counts as expired until Postgres has been up for one lease: no worker could renew or finish while it was
-- unavailable. Of a dead worker, a query that was lost before waits for its lease: if it kills its workers, it does not
-- kill the next one within seconds.
WITH expired AS (
    SELECT id FROM queries
    WHERE state = 'running' AND lease_until < coalesce(CAST(:as_of AS timestamptz), 'infinity')
      AND (CAST(:dead AS bigint[]) IS NULL AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s)
           OR worker_id = ANY(CAST(:dead AS bigint[])) AND crashes = 0)
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
           ARRAY[CASE WHEN CAST(:dead AS bigint[]) IS NULL THEN 'lease_expired' ELSE 'worker_ended' END],
           ARRAY[CASE WHEN CAST(:dead AS bigint[]) IS NULL THEN 'lease expired: the worker that held it was lost ('
                      ELSE 'the process of the worker that held it has ended (' END
                 || crashes || ' of ' || :max_crashes || ')']
    FROM rescued
)
SELECT count(*) FILTER (WHERE state = 'ready') AS rescued, count(*) FILTER (WHERE state = 'dead') AS buried
FROM rescued
