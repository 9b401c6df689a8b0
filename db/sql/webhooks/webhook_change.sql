-- A tenant's webhook, changed in what is given; one that was gone is told again.
UPDATE webhooks
SET name = coalesce(CAST(:name AS text), name), url = coalesce(CAST(:url AS text), url),
    events = coalesce(CAST(:events AS text[]), events), secret = coalesce(CAST(:secret AS text), secret),
    updated_at = now(), gone_at = NULL
WHERE id = :id AND tenant = :tenant
RETURNING id
