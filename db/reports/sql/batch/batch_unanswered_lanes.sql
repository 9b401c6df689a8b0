-- Provider batches of a batch that gave no answer, by lane's deployment and cause: their queries were bought at the price
-- of another lane. One that was closed with its batch is none of them.
SELECT deployment, coalesce(cause, outcome, 'no answer') AS cause, count(*) AS provider_batches,
       CAST(sum(queries) AS bigint) AS queries
FROM provider_batches
WHERE batch_id = :batch_id AND state = 'done' AND answered = 0 AND queries > 0 AND cause IS DISTINCT FROM :closed
GROUP BY 1, 2
ORDER BY queries DESC, 1, 2
