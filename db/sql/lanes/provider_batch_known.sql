-- The provider's ids of all our batches at a provider: what a search for a lost create leaves out.
SELECT remote_id FROM provider_batches
WHERE provider = :provider AND remote_id IS NOT NULL AND created_at > now() - interval '40 days'
