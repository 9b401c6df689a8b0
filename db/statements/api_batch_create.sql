-- A batch that waits for validation.
INSERT INTO api_batches (handle, tenant, input_file_id, endpoint, completion_window, window_s,
                         output_expires_after_s, metadata, idempotency_key, fingerprint, status)
VALUES (:handle, :tenant, :input_file_id, :endpoint, :completion_window, :window_s,
        :output_expires_after_s, CAST(:metadata AS jsonb), :key, :fingerprint, 'validating')
