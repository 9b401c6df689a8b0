-- The pilot of a batch that is too small is decided before it begins.
UPDATE pilots SET state = 'decided', decided_at = now(), certificate = CAST(:certificate AS jsonb),
                  policy = CAST(:policy AS jsonb)
WHERE batch_id = :batch_id
