-- Every reply of a batch's judge, with what it was asked about, in the order of the pairs.
SELECT c.id AS call_id, g.reference_first, array_agg(g.pair ORDER BY g.place) AS pairs,
       CAST(min(CAST(c.response AS text)) AS text) AS response
FROM grades AS g
JOIN calls AS c ON c.id = g.call_id AND c.batch_id = g.batch_id
WHERE g.batch_id = :batch_id AND c.outcome = 'ok' AND c.response IS NOT NULL
GROUP BY c.id, g.reference_first
ORDER BY c.id
