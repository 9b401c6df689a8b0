-- The batch's policy no longer holds: what is not answered yet goes to the top tier.
UPDATE pilots SET breached_at = now() WHERE batch_id = :batch_id AND breached_at IS NULL RETURNING batch_id
