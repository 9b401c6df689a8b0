-- The rest of the batch is cancelled.
UPDATE pilots SET stopped_at = now() WHERE batch_id = :batch_id
