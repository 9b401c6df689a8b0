-- Creates a batch that waits for validation.
INSERT INTO api_batches (public_id, tenant, key_id, input_file_id, endpoint, completion_window, window_s,
                         output_expires_after_s, metadata, cap_usd, budget_policy, priority, dedup, pilot,
                         row_mapping, idempotency_key, fingerprint, traceparent, status)
VALUES (:public_id, :tenant, CAST(:key_id AS text), :input_file_id, :endpoint, :completion_window, CAST(:window_s AS integer),
        CAST(:output_expires_after_s AS integer), CAST(:metadata AS jsonb), CAST(:cap_usd AS numeric), :budget_policy,
        CAST(:priority AS smallint), :dedup, CAST(:pilot AS jsonb), CAST(:row_mapping AS jsonb), :idempotency_key,
        :fingerprint, :traceparent, 'validating')
