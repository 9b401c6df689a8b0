-- How many batches of a tenant are open at the Batch API: they wait for validation, or for their files.
SELECT count(*) AS n
FROM api_batches
WHERE tenant = :tenant AND (status = 'validating' OR status = 'accepted' AND finalized_at IS NULL)
