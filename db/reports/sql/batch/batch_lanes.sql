-- Calls of a batch in lanes below the list price, by provider batch: what they cost, and what the same tokens cost at the
-- list price of the batch's price list.
SELECT c.lane, c.provider_batch_id, count(*) AS calls,
       count(*) FILTER (WHERE c.outcome IS NULL) AS open_calls,
       coalesce(sum(c.cost_usd), 0) AS cost_usd,
       coalesce(sum(l.multiplier / 1000000 * (
           (coalesce(c.prompt_tokens, 0) - coalesce(c.cached_tokens, 0)) * l.input_usd_per_mtok
           + coalesce(c.cached_tokens, 0) * l.cached_input_usd_per_mtok
           + coalesce(c.completion_tokens, 0) * l.output_usd_per_mtok)) FILTER (WHERE c.outcome = 'ok'), 0) AS list_usd
FROM batches AS b
JOIN price_lists AS p ON p.digest = b.price_list
JOIN calls AS c ON c.batch_id = b.id AND c.lane IS NOT NULL
LEFT JOIN LATERAL (
    SELECT x.* FROM jsonb_to_recordset(p.content -> 'models') AS x (
        name text, input_usd_per_mtok numeric, cached_input_usd_per_mtok numeric, output_usd_per_mtok numeric,
        multiplier numeric)
    WHERE x.name = c.deployment
    LIMIT 1
) AS l ON true
WHERE b.id = :batch_id
GROUP BY c.lane, c.provider_batch_id
ORDER BY c.lane, c.provider_batch_id
