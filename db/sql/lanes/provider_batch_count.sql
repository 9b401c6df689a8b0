-- How many lines of a provider batch were answered.
UPDATE provider_batches AS p
SET answered = (SELECT count(*) FROM calls AS c WHERE c.provider_batch_id = :id AND c.outcome = 'ok')
WHERE p.id = :id AND p.epoch = :epoch
RETURNING answered
