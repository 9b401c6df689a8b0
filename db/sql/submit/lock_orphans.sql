-- Whether nobody is at the batch any more (`allocate_batch_id`), nor will be as long as this transaction lasts.
SELECT pg_try_advisory_xact_lock(CAST(:kind AS integer), CAST(CAST(:batch_id AS bigint) % 2147483647 AS integer))
