-- Outcomes of calls per provider while a batch ran, in equal slots between its first and its last call.
WITH span AS (
    SELECT min(created_at) AS began, greatest(max(created_at) - min(created_at), interval '1 ms') AS took
    FROM calls
    WHERE batch_id = :batch_id
)
SELECT c.provider,
       least(CAST(:slots AS integer) - 1, floor(CAST(:slots AS integer) * extract(epoch FROM c.created_at - span.began)
                               / extract(epoch FROM span.took)))::integer AS slot,
       count(*) AS calls,
       count(*) FILTER (WHERE c.outcome = 'ok') AS ok,
       count(*) FILTER (WHERE c.outcome IS NULL) AS open_calls,
       min(span.began) AS began, extract(epoch FROM min(span.took))::double precision AS took_s
FROM calls AS c
CROSS JOIN span
WHERE c.batch_id = :batch_id
GROUP BY c.provider, slot
ORDER BY c.provider, slot
