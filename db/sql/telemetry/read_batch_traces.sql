-- What the traces of batches are known by.
SELECT id, handle, traceparent, total, created_at FROM batches WHERE id = ANY(CAST(:ids AS bigint[]))
