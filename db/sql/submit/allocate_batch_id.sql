-- The id of a new batch, under the lock that says for as long as this transaction lasts that it is under way.
WITH batch AS MATERIALIZED (SELECT nextval('batches_id_seq') AS id)
SELECT batch.id
FROM batch CROSS JOIN LATERAL pg_advisory_xact_lock(CAST(:kind AS integer), CAST(batch.id % 2147483647 AS integer))
