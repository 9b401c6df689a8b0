-- The newest ended batches of a fleet, or of one with the same models and prices, with their plans: the history of a
-- forecast, of embeddings if it `embeds`, else of answers. The tenant's own come first: else a neighbor with many small
-- batches would be all that there is to go by.
--
-- `has_policy` is of a batch whose pilot decided on graded answers. One that had none, as too small for it, went by the
-- default policy, and one whose judge failed, or was not paid, went to the top tier: neither shows what a pilot brings.
-- Unless the batch `is_summed`, `rest_cost_ratio` is null, or of the queries that had ended when it was summed before.
--
-- `sample` has a batch's part of `queries`, one query from each of as many equal stretches: lines of a kind often stand
-- together, or in turns; and as many of its pilot, which is a small part of a large batch.
WITH own AS MATERIALIZED (
    SELECT id FROM batches
    WHERE tenant = :tenant AND (fleet = :fleet OR price_list = :price_list) AND simulated = :simulated
      AND ended_at IS NOT NULL AND cancelled_at IS NULL AND source <> '/v1/chat/completions' AND (endpoint = '/v1/embeddings') = :embeds
    ORDER BY created_at DESC
    LIMIT :batches
),
others AS MATERIALIZED (
    SELECT id FROM batches
    WHERE tenant <> :tenant AND (fleet = :fleet OR price_list = :price_list) AND simulated = :simulated
      AND ended_at IS NOT NULL AND cancelled_at IS NULL AND source <> '/v1/chat/completions' AND (endpoint = '/v1/embeddings') = :embeds
    ORDER BY id DESC
    LIMIT greatest(:batches - (SELECT count(*) FROM own), 0)
),
newest AS MATERIALIZED (SELECT id FROM own UNION ALL SELECT id FROM others)
SELECT b.id, b.tenant, b.source, b.plan, b.total, l.content AS price_list, p.floor,
       b.public_id, coalesce(b.summed_at > b.ended_at, false) AS is_summed,
       coalesce(p.certificate ? 'grader', false) AS has_policy,
       (SELECT sum(cost_usd) / nullif(sum(baseline_usd), 0) FROM workload_sums WHERE batch_id = p.batch_id AND router <> 'pilot')
           ::double precision AS rest_cost_ratio,
       extract(epoch FROM b.ended_at - b.created_at)::double precision AS wall_s,
       ARRAY(SELECT least(first + mod(abs(hashint8(first)::bigint), size), b.last_query_id)
             FROM generate_series(b.first_query_id, b.last_query_id, size) AS s (first)
             UNION
             (SELECT id FROM queries WHERE batch_id = b.id AND pilot ORDER BY hashint8(id) LIMIT :queries / :batches)) AS sample
FROM batches AS b
CROSS JOIN LATERAL (
    SELECT greatest(1, ceil(
        (b.last_query_id - b.first_query_id + 1)::numeric * (SELECT count(*) FROM newest) / :queries))::bigint AS size
) AS stretch
JOIN price_lists AS l ON l.digest = b.price_list
LEFT JOIN pilots AS p ON p.batch_id = b.id
WHERE b.id IN (SELECT id FROM newest)
ORDER BY b.id DESC
