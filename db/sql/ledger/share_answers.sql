-- Followers of ended leaders: an accepted answer becomes theirs (ready → done). Where the leader ended without one, the
-- first of its followers is asked itself and leads the others; where that is the second leader to end so, all of them
-- are asked, unless the leader is dead: what kills workers is asked one at a time.
-- Batches that are paused for the quota of their tenant wait: what is shared is copied, and costs nothing.
-- At most :most at once, and :bytes of answers as they are stored; tenants have equal parts of both, but one query at least.
WITH tenants AS MATERIALIZED (
    SELECT DISTINCT b.tenant FROM batches AS b
    WHERE b.ended_at IS NULL AND b.cancelled_at IS NULL AND EXISTS (SELECT FROM followers AS f WHERE f.batch_id = b.id)
      AND b.pause_code IS NULL
),
part AS MATERIALIZED (
    SELECT CAST(ceil(CAST(:most AS float8) / count(*)) AS bigint) AS queries, CAST(:bytes AS bigint) / count(*) AS bytes
    FROM tenants
    HAVING count(*) > 0
),
found AS MATERIALIZED (
    SELECT t.tenant, w.*, sum(w.bytes) OVER (PARTITION BY t.tenant ORDER BY w.id) - w.bytes AS bytes_before
    FROM tenants AS t
    CROSS JOIN LATERAL (
        SELECT q.id, q.batch_id, q.epoch, q.stage, f.leader_id, f.failures, l.state AS leader_state, p.custom_id,
               lb.public_id AS leader_batch, a.call_id, a.tier, a.model, a.confidence, a.response,
               coalesce(pg_column_size(a.response), 0) AS bytes
        FROM batches AS b
        JOIN followers AS f ON f.batch_id = b.id
        JOIN queries AS l ON l.id = f.leader_id AND l.finished_at IS NOT NULL
        JOIN queries AS q ON q.id = f.query_id AND q.state = ANY(CAST(:sources AS text[])) AND q.finished_at IS NULL
        JOIN batches AS lb ON lb.id = l.batch_id
        JOIN prompts AS p ON p.query_id = l.id
        LEFT JOIN answers AS a ON a.query_id = l.id AND a.accepted AND l.state = 'done'
            AND lb.tenant = b.tenant AND lb.simulated = b.simulated AND lb.purged_at IS NULL
        WHERE b.tenant = t.tenant AND b.ended_at IS NULL AND b.cancelled_at IS NULL
          AND b.pause_code IS NULL
          AND b.simulated = coalesce(CAST(:simulated AS boolean), b.simulated)
        LIMIT (SELECT queries FROM part)
        FOR UPDATE OF q SKIP LOCKED
    ) AS w
),
waiting AS MATERIALIZED (
    SELECT f.* FROM found AS f CROSS JOIN part AS s WHERE f.bytes_before < s.bytes OR f.bytes_before = 0
),
finished AS (
    UPDATE queries AS q
    SET state = 'done', tier = w.tier, due_at = now(), moved_at = now(), finished_at = now()
    FROM waiting AS w
    WHERE q.id = w.id AND w.call_id IS NOT NULL
    RETURNING q.id
),
answered AS (
    INSERT INTO answers (query_id, call_id, tier, model, confidence, accepted, response)
    SELECT w.id, w.call_id, w.tier, w.model, w.confidence, true, w.response
    FROM finished AS d JOIN waiting AS w ON w.id = d.id
),
failed AS (
    SELECT DISTINCT batch_id, leader_id, leader_state, failures, custom_id FROM waiting WHERE call_id IS NULL
),
turns AS (
    SELECT f.query_id AS id, x.batch_id, x.leader_id, x.leader_state, x.custom_id,
           first_value(f.query_id) OVER (PARTITION BY f.batch_id, f.leader_id ORDER BY f.query_id) AS next_id,
           x.failures > 0 AND x.leader_state <> 'dead' AS is_last
    FROM failed AS x JOIN followers AS f ON f.batch_id = x.batch_id AND f.leader_id = x.leader_id
),
asked AS (
    UPDATE queries AS q
    SET moved_at = now(),
        -- Where a pilot is not decided yet, it is part of what may be sampled.
        due_at = CASE WHEN EXISTS (SELECT FROM pilots AS t WHERE t.batch_id = q.batch_id AND t.state <> 'decided')
                      AND NOT EXISTS (SELECT FROM prompts AS p
                                      WHERE p.query_id = q.id AND coalesce(p.options ->> 'pin', 'auto') <> 'auto')
                 THEN 'infinity' ELSE now() END
    FROM turns AS t
    WHERE q.id = t.id AND (t.is_last OR t.id = t.next_id) AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, q.batch_id, q.epoch, q.stage, t.leader_id, t.leader_state, t.custom_id
),
led AS (
    UPDATE followers AS f SET leader_id = t.next_id, failures = f.failures + 1
    FROM turns AS t
    WHERE f.query_id = t.id AND t.id <> t.next_id AND NOT t.is_last
),
parted AS (
    DELETE FROM followers WHERE query_id IN (SELECT id FROM finished UNION ALL SELECT id FROM asked)
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router,
                           confidence, call_id, codes, reasons, detail)
    SELECT w.batch_id, w.id, w.epoch, 'share', 'finish', w.stage, w.stage, 'done', w.tier, 'feeder', w.confidence,
           w.call_id, ARRAY['same_request'],
           ARRAY['not asked: it has the accepted answer of query ' || w.custom_id || ' of ' || w.leader_batch
                 || ', which asks the same'],
           jsonb_build_object('leader_id', w.leader_id)
    FROM finished AS d JOIN waiting AS w ON w.id = d.id
    UNION ALL
    SELECT a.batch_id, a.id, a.epoch, 'share', 'release', a.stage, a.stage, 'ready', NULL, 'feeder', NULL, NULL,
           ARRAY['leader_failed'],
           ARRAY['query ' || a.custom_id || ' asks the same and has no accepted answer (' || a.leader_state
                 || '): this one is asked itself'],
           jsonb_build_object('leader_id', a.leader_id)
    FROM asked AS a
)
SELECT (SELECT count(*) FROM finished) AS finished, (SELECT count(*) FROM asked) AS asked
