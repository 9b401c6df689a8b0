-- Decided pilots that were asked to stop there and whose rest is not cancelled yet. Once: what is resumed later goes on.
SELECT batch_id FROM pilots WHERE stops AND state = 'decided' AND stopped_at IS NULL
