-- The pilot of a batch exists, without a sample yet.
INSERT INTO pilots (batch_id, floor, confidence, seed, max_queries, stops, audit_share, grader, state)
VALUES (:batch_id, :floor, :confidence, :seed, :max_queries, :stops, :audit_share, CAST(:grader AS text), 'sampling')
