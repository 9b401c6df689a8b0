-- Each finished query of a batch in the order of its input, with its answer or the reason why it has none.
-- For a page of an API file: only the given states, after a query, at most :rows, and no more than :bytes of answers and
-- what they are shown with, but one query at least.
WITH RECURSIVE chosen AS MATERIALIZED (
    SELECT q.id
    FROM queries AS q
    WHERE q.batch_id = :batch_id AND q.finished_at IS NOT NULL
      -- As plain values they bound a scan of the key, whatever the planner knows.
      AND q.id >= (SELECT b.first_query_id FROM batches AS b WHERE b.id = :batch_id)
      AND q.id <= (SELECT b.last_query_id FROM batches AS b WHERE b.id = :batch_id)
      AND q.id > coalesce(CAST(:after AS bigint), 0)
      AND (CAST(:states AS text[]) IS NULL OR q.state = ANY(CAST(:states AS text[])))
    ORDER BY q.id
    LIMIT CAST(:rows AS bigint)
),
ids AS MATERIALIZED (
    SELECT array_agg(k.id ORDER BY k.id) AS of_page FROM chosen AS k WHERE CAST(:bytes AS bigint) IS NOT NULL
),
walk (place, bytes) AS (
    -- One by one until the page is full: how long a text is, only reading it says, and five hundred of them may be a
    -- thousand times what the page takes.
    SELECT 0, CAST(0 AS bigint)
    UNION ALL
    SELECT w.place + 1, w.bytes + size.bytes
    FROM walk AS w
    CROSS JOIN ids
    CROSS JOIN LATERAL (
        -- The user's own fields are shown with an answer of the Responses API alone.
        SELECT coalesce(max(octet_length(CAST(a.response AS text)) + (
                   SELECT CASE WHEN b.endpoint = '/v1/responses' THEN octet_length(CAST(p.body AS text)) ELSE 0 END
                   FROM prompts AS p JOIN batches AS b ON b.id = p.batch_id WHERE p.query_id = a.query_id)), 0) AS bytes
        FROM answers AS a WHERE a.query_id = ids.of_page[w.place + 1]
    ) AS size
    WHERE w.place < cardinality(ids.of_page) AND w.bytes <= CAST(:bytes AS bigint)
),
page AS MATERIALIZED (
    SELECT k.id FROM chosen AS k WHERE CAST(:bytes AS bigint) IS NULL
    UNION ALL
    SELECT ids.of_page[w.place] FROM walk AS w CROSS JOIN ids
    WHERE w.place > 0 AND (w.place = 1 OR w.bytes <= CAST(:bytes AS bigint))
)
SELECT q.id, p.custom_id, q.state, q.escalations,
       a.tier AS answer_tier, a.model, a.confidence, a.accepted, CAST(a.response AS text) AS response,
       b.endpoint, CASE WHEN b.endpoint = '/v1/responses' AND a.query_id IS NOT NULL THEN (
           SELECT CAST(json_object_agg(e.key, e.value) AS text) FROM json_each(p.body) AS e WHERE e.key <> 'messages')
       END AS asked,
       c.provider, c.request_id, c.status, spent.cost_usd, why.reasons,
       last.reason AS last_reason, last.kind AS last_kind, c.finish_reason = 'length' AND why.is_cut AS cut_off,
       f.status AS failed_status, f.request_id AS failed_request_id, f.cause AS failed_cause, f.param AS failed_param,
       c.answered_by, c.service_tier
FROM page AS g
JOIN queries AS q ON q.id = g.id
JOIN prompts AS p ON p.query_id = g.id
JOIN batches AS b ON b.id = p.batch_id
LEFT JOIN answers AS a ON a.query_id = q.id AND q.state = 'done'
LEFT JOIN LATERAL (
    SELECT c.provider, c.request_id, c.status, c.finish_reason, c.answered_by, c.service_tier FROM calls AS c
    WHERE c.query_id = q.id AND c.id = a.call_id LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    SELECT sum(coalesce(s.cost_usd, s.reserved_usd)) AS cost_usd FROM calls AS s WHERE s.query_id = q.id
) AS spent ON true
LEFT JOIN LATERAL (
    SELECT array_agg(decided.reason ORDER BY decided.id, decided.place)
               FILTER (WHERE decided.kind IN ('route', 'judge', 'fallback', 'share')) AS reasons,
           bool_or(decided.kind = 'judge' AND decided.tier = a.tier AND 'truncated' = ANY(decided.codes)) AS is_cut
    FROM (SELECT d.id, d.kind, d.tier, d.codes, r.place, r.reason
          FROM decisions AS d, unnest(d.reasons) WITH ORDINALITY AS r (reason, place)
          WHERE d.query_id = q.id) AS decided
) AS why ON true
LEFT JOIN LATERAL (
    SELECT array_to_string(d.reasons, '; ') AS reason, d.kind FROM decisions AS d
    WHERE d.query_id = q.id AND q.state <> 'done' ORDER BY d.id DESC LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT c.status, c.request_id, c.cause, c.param FROM calls AS c
    WHERE c.query_id = q.id AND q.state = 'failed' AND c.outcome <> 'ok'
    ORDER BY c.id DESC LIMIT 1
) AS f ON true
ORDER BY g.id
