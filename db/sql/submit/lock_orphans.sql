-- Whether the writer of the batch is gone (`allocate_batch_id`); none can start while this transaction lasts.
SELECT pg_try_advisory_xact_lock(CAST(:kind AS integer), CAST(CAST(:batch_id AS bigint) % 2147483647 AS integer))
