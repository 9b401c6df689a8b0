-- What the plan of a batch with a deadline goes by: the time left, its forecast, and its open queries by stage.
SELECT b.id, extract(epoch FROM b.deadline - now())::double precision AS left_s, b.plan -> 'tiers' AS forecast_tiers,
       (SELECT coalesce(jsonb_object_agg(s.stage, s.queries), '{}') FROM (
            SELECT q.stage, count(*) AS queries FROM queries AS q
            WHERE q.batch_id = b.id AND q.finished_at IS NULL GROUP BY q.stage) AS s) AS open
FROM batches AS b
WHERE b.id = :batch_id
