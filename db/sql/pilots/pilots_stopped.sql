-- Decided pilots that were asked to stop there and whose rest is not cancelled yet. Once: what is resumed later goes on.
SELECT t.batch_id, b.tenant FROM pilots AS t JOIN batches AS b ON b.id = t.batch_id
WHERE t.stops AND t.state = 'decided' AND t.stopped_at IS NULL
