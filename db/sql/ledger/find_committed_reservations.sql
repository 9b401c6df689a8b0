-- After a lost commit reply: which of these intents did commit.
SELECT c.id, c.created_at AS at
FROM calls AS c
WHERE c.id = ANY(CAST(:call_ids AS bigint[])) AND c.created_at > now() - interval '1 day'
