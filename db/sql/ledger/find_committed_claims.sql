-- After a lost commit reply: which of these claims did commit and still hold.
SELECT q.id, q.epoch, c.created_at AS at
FROM calls AS c
JOIN queries AS q ON q.id = c.query_id AND q.epoch = c.epoch AND q.state = 'running'
WHERE c.id = ANY(CAST(:call_ids AS bigint[]))
  AND c.created_at > now() - interval '1 day'
