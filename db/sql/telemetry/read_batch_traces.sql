-- What identifies the traces of batches.
SELECT id, public_id, traceparent, total, created_at FROM batches WHERE id = ANY(CAST(:ids AS bigint[]))
