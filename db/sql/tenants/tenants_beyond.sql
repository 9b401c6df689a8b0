-- Tenants with batches of more than :most bytes.
SELECT t.name FROM tenants AS t
WHERE t.stored_bytes + coalesce((SELECT sum(b.prompt_bytes + b.answer_bytes) FROM batches AS b
                                 WHERE b.tenant = t.name AND b.measured_at IS NULL), 0) > :most
