-- Batches as the Batch API shows them, by tenant and public id.
-- The queries of a batch with files are not counted again.
SELECT w.tenant, w.public_id, b.id, coalesce(a.status, 'accepted') AS status, a.input_file_id,
       coalesce(a.endpoint, b.endpoint) AS endpoint, coalesce(a.completion_window, '24h') AS completion_window,
       coalesce(a.metadata, b.metadata) AS metadata, a.errors, a.output_file_id, a.error_file_id, a.usage,
       b.plan -> 'warnings' AS warnings, a.public_id IS NOT NULL AS adopted,
       coalesce(a.created_at, b.created_at) AS created_at, coalesce(a.accepted_at, b.created_at) AS accepted_at,
       coalesce(b.expires_at, a.created_at + make_interval(secs => a.window_s)) AS expires_at,
       coalesce(a.cancelling_at, b.cancelled_at) AS cancelling_at, b.paused_at, b.pause_code,
       a.failed_at, b.ended_at, a.finalized_at,
       b.purged_at IS NOT NULL AS purged, a.counts AS stored_counts, coalesce(b.total, 0) AS total,
       c.done, c.failed, c.expired, c.cancelled
FROM unnest(CAST(:tenants AS text[]), CAST(:public_ids AS text[])) AS w (tenant, public_id)
LEFT JOIN api_batches AS a ON a.public_id = w.public_id AND a.tenant = w.tenant
LEFT JOIN batches AS b ON b.public_id = w.public_id AND b.tenant = w.tenant
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE q.state = 'done') AS done,
           count(*) FILTER (WHERE q.state IN ('failed', 'dead')) AS failed,
           count(*) FILTER (WHERE q.state = 'expired') AS expired,
           count(*) FILTER (WHERE q.state = 'cancelled') AS cancelled
    FROM queries AS q
    WHERE q.id BETWEEN b.first_query_id AND b.last_query_id AND q.batch_id = b.id AND a.counts IS NULL
) AS c
WHERE a.public_id IS NOT NULL OR b.public_id IS NOT NULL
