-- Answers of a batch that its queries ended with and that are not whole, as the judge noted: by deployment, and whether
-- the field of the line with the cap that cut them off. A label of one token under max_tokens = 1 ends by length as well, and is whole.
SELECT c.deployment, o.cap_field, count(*) AS answers, min(p.custom_id) AS example
FROM batches AS b
JOIN calls AS c ON c.batch_id = b.id AND c.finish_reason = 'length' AND c.outcome = 'ok'
JOIN answers AS a ON a.call_id = c.id AND a.query_id = c.query_id
JOIN queries AS q ON q.id = a.query_id AND q.state = 'done'
JOIN prompts AS p ON p.query_id = q.id
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.completion_tokens >= CAST(p.body ->> 'max_completion_tokens' AS bigint) THEN 'max_completion_tokens'
                WHEN p.body ->> 'max_completion_tokens' IS NULL
                     AND c.completion_tokens >= CAST(p.body ->> 'max_tokens' AS bigint) THEN 'max_tokens' END AS cap_field
) AS o
WHERE b.id = :batch_id AND EXISTS (
    SELECT FROM decisions AS d
    WHERE d.query_id = q.id AND d.kind = 'judge' AND d.tier = c.tier AND 'truncated' = ANY(d.codes))
GROUP BY c.deployment, o.cap_field
ORDER BY answers DESC, c.deployment, o.cap_field
