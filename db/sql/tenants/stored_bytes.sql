-- The bytes of prompts and answers of a tenant's batches: those that were measured, and those that were not yet. One that
-- never came into the ledger counts with its metadata and errors, at their most.
SELECT coalesce((SELECT t.stored_bytes FROM tenants AS t WHERE t.name = :tenant), 0)
     + coalesce((SELECT sum(b.prompt_bytes + b.answer_bytes) FROM batches AS b
                 WHERE b.tenant = :tenant AND b.measured_at IS NULL), 0)
     + (SELECT count(*) * :failed_bytes FROM api_batches AS a
        WHERE a.tenant = :tenant AND a.status IN ('failed', 'cancelled')) AS bytes
