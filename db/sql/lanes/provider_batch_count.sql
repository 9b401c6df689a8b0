-- How many lines of a provider batch were answered, how many the provider counts as succeeded (each with a good status,
-- also those with an error or an answer that is refused here; each that cannot be read or is charged without a line), and
-- how many have no outcome.
UPDATE provider_batches AS p
SET answered = t.answered
FROM (SELECT count(*) FILTER (WHERE c.outcome = 'ok') AS answered,
             count(*) FILTER (WHERE c.status BETWEEN 200 AND 299
                 OR c.status IS NULL AND c.outcome IN ('broken_body', 'unknown')) AS succeeded,
             count(*) FILTER (WHERE c.outcome IS NULL) AS open_calls
      FROM calls AS c WHERE c.provider_batch_id = :id) AS t
WHERE p.id = :id AND p.epoch = :epoch
RETURNING t.succeeded, t.open_calls
