-- Marks a batch as accepted: its queries are in the ledger, under the same public id.
UPDATE api_batches
SET status = 'accepted', accepted_at = now(), lease_until = NULL
WHERE public_id = :public_id AND status = 'validating'
RETURNING cancelling_at
