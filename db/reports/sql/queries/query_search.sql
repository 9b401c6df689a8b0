-- Queries of one batch by state, a part of their custom_id and a part of a reason in their log, in the file's order; with
-- the newest decision's reason, of those that have the part. Upper and lower case are the same.
WITH found AS MATERIALIZED (
    SELECT q.id, p.line, p.custom_id, q.state, q.tier, q.escalations
    FROM queries AS q
    JOIN prompts AS p ON p.query_id = q.id
    WHERE q.batch_id = :batch_id
      -- As plain values they bound a scan of the key, whatever the planner knows.
      AND q.id >= (SELECT b.first_query_id FROM batches AS b WHERE b.id = :batch_id)
      AND q.id <= (SELECT b.last_query_id FROM batches AS b WHERE b.id = :batch_id)
      AND (CAST(:state AS text) IS NULL OR q.state = :state)
      AND (CAST(:custom_id AS text) IS NULL OR strpos(lower(p.custom_id), lower(:custom_id)) > 0)
      AND (CAST(:reason AS text) IS NULL OR q.id IN (
          SELECT d.query_id FROM decisions AS d
          WHERE d.batch_id = :batch_id AND strpos(lower(array_to_string(d.reasons, '; ')), lower(:reason)) > 0))
    ORDER BY q.id
    LIMIT CAST(:rows AS integer)
)
SELECT f.line, f.custom_id, f.state, f.tier, f.escalations, d.reason
FROM found AS f
LEFT JOIN LATERAL (
    SELECT array_to_string(d.reasons, '; ') AS reason
    FROM decisions AS d
    WHERE d.query_id = f.id
      AND (CAST(:reason AS text) IS NULL OR strpos(lower(array_to_string(d.reasons, '; ')), lower(:reason)) > 0)
    ORDER BY d.id DESC
    LIMIT 1
) AS d ON true
ORDER BY f.id
