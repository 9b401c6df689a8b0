-- Makes the files of an ended batch visible and queues the event for the webhooks of its tenant: once, unless it is
-- resumed. If it was resumed while its files were measured, and has perhaps ended again, this changes nothing, and the
-- next finalizer starts over.
WITH finalized AS (
    UPDATE api_batches
    SET finalized_at = now(), counts = CAST(:counts AS jsonb), usage = CAST(:usage AS jsonb), lease_until = NULL,
        output_file_id = :output_file_id, error_file_id = :error_file_id
    WHERE public_id = :public_id AND finalized_at IS NULL
      AND EXISTS (SELECT FROM batches AS b WHERE b.public_id = :public_id AND b.ended_at = :ended_at)
    RETURNING public_id, tenant, output_expires_after_s
),
given_back AS (
    UPDATE api_batches SET lease_until = NULL
    WHERE public_id = :public_id AND finalized_at IS NULL AND NOT EXISTS (SELECT FROM finalized)
),
filed AS (
    INSERT INTO files (id, tenant, purpose, filename, bytes, content, batch, ready, expires_at)
    SELECT f.id, d.tenant, 'batch_output', f.filename, f.bytes, f.content, d.public_id, true,
           now() + make_interval(secs => d.output_expires_after_s)
    FROM finalized AS d,
         jsonb_to_recordset(CAST(:files AS jsonb)) AS f (id text, filename text, bytes bigint, content text)
    ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes, expires_at = excluded.expires_at
)
INSERT INTO webhook_messages (id, webhook_id, tenant, event, batch)
SELECT :event_id, w.id, w.tenant, :event, d.public_id
FROM finalized AS d JOIN webhooks AS w ON w.tenant = d.tenant AND :event = ANY(w.events) AND w.gone_at IS NULL
