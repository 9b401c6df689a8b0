-- Tokens in the provider batches of a deployment that are not over.
SELECT coalesce(sum(p.tokens), 0) AS tokens FROM provider_batches AS p
WHERE p.deployment = :deployment AND p.state NOT IN ('collecting', 'done')
