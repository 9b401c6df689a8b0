-- Every query of a batch in the order of its input, with its answer's text or the reason why it has none.
-- The tier is the one that answered: an unanswered query has none.
SELECT p.line, p.custom_id, q.state, a.tier, a.model, a.confidence, q.escalations,
       coalesce(nullif(said.message ->> 'content', ''), said.message ->> 'tool_calls', said.message ->> 'content',
                a.response ->> 'data') AS answer,
       CAST(coalesce(spent.cost_usd, 0) AS float8) AS cost_usd, last.reason, cut.call_id IS NOT NULL AS cut_off
FROM batches AS b
JOIN prompts AS p ON p.query_id BETWEEN b.first_query_id AND b.last_query_id AND p.batch_id = b.id
JOIN queries AS q ON q.id = p.query_id
LEFT JOIN answers AS a ON a.query_id = q.id AND q.state = 'done'
LEFT JOIN LATERAL (SELECT a.response -> 'choices' -> 0 -> 'message' AS message) AS said ON true
LEFT JOIN LATERAL (
    SELECT c.id AS call_id FROM calls AS c
    WHERE c.query_id = q.id AND c.id = a.call_id AND c.finish_reason = 'length' AND EXISTS (
        SELECT FROM decisions AS d
        WHERE d.query_id = q.id AND d.kind = 'judge' AND d.tier = a.tier AND 'truncated' = ANY(d.codes))
) AS cut ON true
LEFT JOIN LATERAL (
    SELECT sum(coalesce(s.cost_usd, s.reserved_usd)) AS cost_usd FROM calls AS s WHERE s.query_id = q.id
) AS spent ON true
LEFT JOIN LATERAL (
    SELECT array_to_string(d.reasons, '; ') AS reason FROM decisions AS d
    WHERE d.query_id = q.id AND q.finished_at IS NOT NULL AND q.state <> 'done' ORDER BY d.id DESC LIMIT 1
) AS last ON true
WHERE b.id = :batch_id
ORDER BY p.query_id
