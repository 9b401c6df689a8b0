-- Leases a batch that waits for validation, or whose validator was lost: tenants take turns.
WITH taken AS (
    UPDATE api_batches
    SET lease_until = now() + make_interval(secs => :lease_s), tries = tries + 1
    WHERE public_id = (
        SELECT w.public_id FROM api_batches AS w
        LEFT JOIN (
            SELECT tenant, count(*) AS leased FROM api_batches
            WHERE status = 'validating' AND lease_until >= now()
            GROUP BY tenant
        ) AS o ON o.tenant = w.tenant
        WHERE w.status = 'validating' AND (w.lease_until IS NULL OR w.lease_until < now())
          AND w.tenant <> ALL(CAST(:not_of AS text[]))
        ORDER BY coalesce(o.leased, 0), w.created_at
        LIMIT 1
        FOR UPDATE OF w SKIP LOCKED)
    RETURNING *
)
SELECT t.public_id, t.tenant, t.key_id, t.endpoint, t.input_file_id, f.filename, t.metadata, t.cap_usd, t.budget_policy,
       t.priority, t.dedup, t.pilot, t.row_mapping, t.tries, t.cancelling_at, t.traceparent,
       t.created_at + make_interval(secs => t.window_s) AS expires_at
FROM taken AS t
LEFT JOIN files AS f ON f.id = t.input_file_id AND f.tenant = t.tenant AND f.ready
