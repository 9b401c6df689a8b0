-- Confidence of the answers of a batch: how many per tenth, the last one with 1; null for answers without one.
SELECT a.tier,
       CASE WHEN a.confidence IS NOT NULL THEN least(9, floor(10 * a.confidence))::integer END AS tenth,
       count(*) AS answers,
       count(*) FILTER (WHERE NOT a.accepted) AS unaccepted, sum(a.confidence) AS total
FROM batches AS b
JOIN queries AS q ON q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND q.state = 'done'
JOIN answers AS a ON a.query_id = q.id
WHERE b.id = :batch_id
GROUP BY a.tier, tenth
ORDER BY a.tier, tenth
