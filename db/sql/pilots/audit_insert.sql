-- The grade of an accepted answer against the top tier's, once per query.
INSERT INTO audits (query_id, batch_id, call_id, tier, grade, reference_grade)
VALUES (:query_id, :batch_id, :call_id, :tier, :grade, :reference_grade)
ON CONFLICT (query_id) DO NOTHING
