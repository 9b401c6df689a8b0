-- How many lines of a provider batch were answered, how many the provider counts as succeeded (also those whose answers
-- we refuse, and those that are charged without one), and how many have no outcome. A failure with a status is one that
-- the provider counts as failed.
UPDATE provider_batches AS p
SET answered = t.answered
FROM (SELECT count(*) FILTER (WHERE c.outcome = 'ok') AS answered,
             count(*) FILTER (WHERE c.outcome = 'ok'
                 OR c.outcome IN ('safety', 'broken_body', 'broken_off', 'unknown') AND c.status IS NULL) AS succeeded,
             count(*) FILTER (WHERE c.outcome IS NULL) AS open_calls
      FROM calls AS c WHERE c.provider_batch_id = :id) AS t
WHERE p.id = :id AND p.epoch = :epoch
RETURNING t.succeeded, t.open_calls
