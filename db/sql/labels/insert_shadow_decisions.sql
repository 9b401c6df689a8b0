-- Decisions of a candidate router; the newest decision per query counts.
INSERT INTO shadows (query_id, router, batch_id, tier, stage, confidence)
SELECT s.query_id, :router, q.batch_id, s.tier, s.stage, s.confidence
FROM json_to_recordset(CAST(:shadows AS json)) AS s (
    query_id bigint, tier text, stage text, confidence double precision)
JOIN queries AS q ON q.id = s.query_id
ON CONFLICT (query_id, router) DO UPDATE
SET tier = excluded.tier, stage = excluded.stage, confidence = excluded.confidence, at = now()
