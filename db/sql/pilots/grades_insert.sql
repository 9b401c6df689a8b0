-- What a call of the judge is about to ask.
INSERT INTO grades (call_id, place, batch_id, query_id, pair, reference_first)
SELECT :call_id, m.place, :batch_id, m.query_id, m.pair, :reference_first
FROM jsonb_to_recordset(CAST(:pairs AS jsonb)) AS m (place smallint, query_id bigint, pair text)
