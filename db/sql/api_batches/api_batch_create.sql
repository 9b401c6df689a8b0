-- Creates a batch that waits for validation.
INSERT INTO api_batches (public_id, tenant, input_file_id, endpoint, completion_window, window_s,
                         output_expires_after_s, metadata, cap_usd, budget_policy, priority, pilot,
                         idempotency_key, fingerprint, traceparent, status)
VALUES (:public_id, :tenant, :input_file_id, :endpoint, :completion_window, :window_s,
        :output_expires_after_s, CAST(:metadata AS jsonb), CAST(:cap_usd AS numeric), :budget_policy, :priority,
        CAST(:pilot AS jsonb),
        :key, :fingerprint, :traceparent, 'validating')
