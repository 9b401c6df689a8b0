-- What people say of the judged pairs of a batch: per pair, the loss by the judge and by the newest labels, -1 to 1.
SELECT pair.loss AS judged, coalesce(reference.grade, 1.0) - answer.grade AS labeled
FROM pilots AS t
CROSS JOIN LATERAL jsonb_to_recordset(t.certificate -> 'judge' -> 'to_label')
    AS pair (query_id bigint, tier text, reference text, loss double precision)
CROSS JOIN LATERAL (
    SELECT grade FROM labels WHERE query_id = pair.query_id AND tier = pair.tier ORDER BY id DESC LIMIT 1
) AS answer
LEFT JOIN LATERAL (
    SELECT grade FROM labels WHERE query_id = pair.query_id AND tier = pair.reference ORDER BY id DESC LIMIT 1
) AS reference ON true
WHERE t.batch_id = :batch_id AND (pair.reference IS NULL OR reference.grade IS NOT NULL)
