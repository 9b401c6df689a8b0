-- Changes the given fields of a webhook; one that was gone gets messages again.
UPDATE webhooks
SET name = coalesce(CAST(:name AS text), name), url = coalesce(CAST(:url AS text), url),
    events = coalesce(CAST(:events AS text[]), events), secret = coalesce(CAST(:secret AS text), secret),
    updated_at = now(), gone_at = NULL
WHERE id = :id AND tenant = :tenant
RETURNING id
