-- The id of a new batch, under a lock that marks it as being written for as long as this transaction lasts.
WITH batch AS MATERIALIZED (SELECT nextval('batches_id_seq') AS id)
SELECT batch.id
FROM batch CROSS JOIN LATERAL pg_advisory_xact_lock(CAST(:kind AS integer), CAST(batch.id % 2147483647 AS integer))
