-- Decided pilots that were asked to stop there and whose batch still has open queries.
SELECT t.batch_id FROM pilots AS t JOIN batches AS b ON b.id = t.batch_id
WHERE t.stops AND t.state = 'decided' AND b.ended_at IS NULL
