-- Provider batches of a batch that gave no answer, by lane's deployment and cause, with their queries that no other one
-- answered or may still answer: these were bought at the price of another lane. One that was closed with its batch is none
-- of them.
SELECT p.deployment, coalesce(p.cause, p.outcome, 'no answer') AS cause, count(DISTINCT p.id) AS provider_batches,
       count(DISTINCT c.query_id) AS queries
FROM provider_batches AS p
JOIN calls AS c ON c.provider_batch_id = p.id
WHERE p.batch_id = :batch_id AND p.state = 'done' AND p.answered = 0 AND p.cause IS DISTINCT FROM :closed
  AND NOT EXISTS (
      SELECT FROM calls AS o
      WHERE o.query_id = c.query_id AND o.tier = c.tier AND o.provider_batch_id <> p.id
        AND (o.outcome = 'ok' OR o.outcome IS NULL))
GROUP BY 1, 2
ORDER BY queries DESC, 1, 2
