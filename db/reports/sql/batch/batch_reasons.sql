-- Why the given queries went where they went, each reason once and in the order of the log. A verdict that rejects is
-- left out: the step after it repeats it, with its tier. That a query is sampled is said where it was routed.
SELECT query_id, array_agg(reason ORDER BY id, place) AS reasons
FROM (
    SELECT DISTINCT ON (d.query_id, r.reason) d.query_id, d.id, r.place, r.reason
    FROM decisions AS d, unnest(d.reasons, d.codes) WITH ORDINALITY AS r (reason, code, place)
    WHERE d.query_id = ANY(CAST(:query_ids AS bigint[]))
      AND (d.kind = 'route' OR r.code IS DISTINCT FROM 'pilot'
           AND (d.kind = 'fallback' OR d.kind = 'judge' AND d.to_stage <> 'fallback'))
    ORDER BY d.query_id, r.reason, d.id, r.place
) AS said
GROUP BY query_id
