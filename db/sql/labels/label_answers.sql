-- Adds labels by one author, unless their query has :most; the newest label of a query and tier counts.
INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by)
SELECT l.query_id, q.batch_id, l.tier, l.grade, :source, :said_by
FROM json_to_recordset(CAST(:labels AS json)) AS l (query_id bigint, tier text, grade double precision)
JOIN queries AS q ON q.id = l.query_id
WHERE CAST(:most AS bigint) IS NULL
   OR (SELECT count(*) FROM labels AS o WHERE o.query_id = l.query_id) < CAST(:most AS bigint)
RETURNING id
