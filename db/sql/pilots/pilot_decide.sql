-- The pilot is decided, with its certificate and policy; the decision of that is a row of the log, so that the seals
-- cover it. The feeder then makes the rest of the batch due. In a batch that was closed meanwhile nothing is decided: what
-- was not graded for that would count as lost, and a resume has the pilot decided again.
WITH pilot AS (
    UPDATE pilots SET state = 'decided', lease_until = NULL, decided_at = now(),
                      certificate = CAST(:certificate AS jsonb), policy = CAST(:policy AS jsonb),
                      weights = CAST(:weights AS bytea)
    WHERE batch_id = :batch_id AND state = 'deciding' AND epoch = :epoch
      AND EXISTS (SELECT FROM batches AS b
                  WHERE b.id = pilots.batch_id AND b.ended_at IS NULL AND b.cancelled_at IS NULL)
    RETURNING batch_id
)
INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, router, confidence,
                       codes, reasons, detail)
SELECT t.batch_id, q.id, q.epoch, 'certificate', 'certify', q.stage, q.stage, q.state, 'pilot', :confidence,
       ARRAY['quality_policy'], ARRAY[CAST(:reason AS text)], CAST(:certificate AS jsonb)
FROM pilot AS t
JOIN LATERAL (
    SELECT id, epoch, stage, state FROM queries WHERE batch_id = t.batch_id ORDER BY pilot DESC, id LIMIT 1
) AS q ON true
