-- Its queries are in the ledger, under the same handle.
UPDATE api_batches
SET status = 'accepted', accepted_at = now(), lease_until = NULL
WHERE handle = :handle AND status = 'validating'
RETURNING cancelling_at
