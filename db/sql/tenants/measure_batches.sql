-- Batches that were not measured since they ended, after :after, of about :queries queries together: what their answers
-- take as they are stored. Those that have ended are then part of the sum of their tenant; of open ones it is what they
-- take by now.
WITH unmeasured AS MATERIALIZED (  -- with the order in it, it might walk the key of all that there ever were
    SELECT b.id, b.xmin AS version, b.first_query_id, b.last_query_id, b.total FROM batches AS b
    WHERE b.measured_at IS NULL
),
due AS MATERIALIZED (
    SELECT d.* FROM (
        SELECT u.*, sum(u.total) OVER (ORDER BY u.id) - u.total AS queries_before FROM unmeasured AS u WHERE u.id > :after
    ) AS d
    WHERE d.queries_before < :queries
),
sizes AS MATERIALIZED (
    SELECT d.id, d.version, (
        -- A query that was resumed or paused again and again has more decisions than its row is counted with, one for each epoch.
        SELECT coalesce(sum(coalesce(pg_column_size(a.response), 0) + 1024 * greatest(q.epoch - 8, 0)), 0)
        FROM queries AS q LEFT JOIN answers AS a ON a.query_id = q.id
        WHERE q.id BETWEEN d.first_query_id AND d.last_query_id AND q.batch_id = d.id
    ) + (
        SELECT coalesce(sum(pg_column_size(c.response)), 0) FROM calls AS c WHERE c.batch_id = d.id
    ) AS bytes
    FROM due AS d
),
measured AS (
    UPDATE batches AS b
    SET answer_bytes = CASE WHEN b.ended_at IS NULL THEN greatest(b.answer_bytes, s.bytes) ELSE s.bytes END,
        measured_at = CASE WHEN b.ended_at IS NOT NULL THEN now() END
    FROM sizes AS s
    WHERE b.id = s.id AND b.xmin = s.version  -- else it was resumed, or purged, meanwhile
      AND (b.ended_at IS NOT NULL OR s.bytes > b.answer_bytes)
    RETURNING b.tenant, b.prompt_bytes + b.answer_bytes AS bytes, b.measured_at
),
counted AS (
    INSERT INTO tenants (name, stored_bytes)
    SELECT m.tenant, sum(m.bytes) FROM measured AS m WHERE m.measured_at IS NOT NULL GROUP BY m.tenant
    ON CONFLICT (name) DO UPDATE SET stored_bytes = tenants.stored_bytes + excluded.stored_bytes
)
SELECT max(id) AS last_id FROM due
