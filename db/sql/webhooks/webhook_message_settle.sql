-- Records the outcome of a message: delivered, due again, or given up.
UPDATE webhook_messages
SET last_result = :result, delivered_at = CASE WHEN :delivered THEN now() END,
    due_at = now() + make_interval(secs => CAST(:again_in_s AS double precision))
WHERE id = :id AND webhook_id = :webhook_id
