-- Audits of batches that may still be breached, oldest first: what the sequential test goes by.
SELECT s.batch_id, t.floor, t.confidence, t.certificate -> 'accept_shares' AS accept_shares,
       CAST(t.certificate -> 'rest_share' AS double precision) AS rest_share,
       array_agg(s.reference_grade - s.grade ORDER BY s.at, s.query_id) AS losses
FROM audits AS s
JOIN pilots AS t ON t.batch_id = s.batch_id AND t.state = 'decided' AND t.breached_at IS NULL
    AND t.certificate -> 'accept_shares' IS NOT NULL
JOIN batches AS b ON b.id = s.batch_id AND b.ended_at IS NULL
GROUP BY s.batch_id, t.floor, t.confidence, t.certificate
