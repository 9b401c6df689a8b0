-- After a lost commit reply: which of these moves did commit into the broker's share and wait there.
SELECT q.id, q.stage, q.state
FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS integer[]), CAST(:stages AS text[])) AS m (id, epoch, stage)
JOIN queries AS q ON q.id = m.id AND q.epoch = m.epoch AND q.stage = m.stage
WHERE q.state = 'queued'
