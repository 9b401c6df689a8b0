-- Each finished query of a batch in the order of its input, with its answer or the reason why it has none.
-- For a page of an API file: only the given states, after a query, at most :rows.
SELECT q.id, p.custom_id, q.state, q.escalations,
       a.tier AS answer_tier, a.model, a.confidence, a.accepted, CAST(a.response AS text) AS response,
       b.endpoint, CASE WHEN b.endpoint <> '/v1/chat/completions' THEN CAST(p.body AS text) END AS asked,
       c.provider, c.request_id, c.status, spent.cost_usd, why.reasons,
       last.reason AS last_reason, last.kind AS last_kind, f.status AS failed_status, f.request_id AS failed_request_id,
       f.cause AS failed_cause, f.param AS failed_param, c.answered_by, c.service_tier
FROM batches AS b
JOIN prompts AS p ON p.query_id BETWEEN b.first_query_id AND b.last_query_id AND p.batch_id = b.id
JOIN queries AS q ON q.id = p.query_id
LEFT JOIN answers AS a ON a.query_id = q.id AND q.state = 'done'
LEFT JOIN LATERAL (
    SELECT c.provider, c.request_id, c.status, c.answered_by, c.service_tier FROM calls AS c
    WHERE c.query_id = q.id AND c.id = a.call_id LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    SELECT sum(coalesce(s.cost_usd, s.reserved_usd)) AS cost_usd FROM calls AS s WHERE s.query_id = q.id
) AS spent ON true
LEFT JOIN LATERAL (
    SELECT array_agg(decided.reason ORDER BY decided.id, decided.place)
               FILTER (WHERE decided.kind IN ('route', 'judge', 'fallback', 'share')) AS reasons
    FROM (SELECT d.id, d.kind, r.place, r.reason
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
WHERE b.id = :batch_id AND q.finished_at IS NOT NULL
  AND (CAST(:states AS text[]) IS NULL OR q.state = ANY(CAST(:states AS text[])))
  AND (CAST(:after AS bigint) IS NULL OR p.query_id > CAST(:after AS bigint))
ORDER BY p.query_id
LIMIT CAST(:rows AS bigint)
