-- spend_daily has, of a UTC day, what its calls with a result cost, and nothing else.
-- A workload that was found by its system prompt counts from its second query of a tenant's day on; calls that serve
-- several queries at once have no workload. No query was routed before the `oldest` batch of the day was submitted.
WITH paid AS MATERIALIZED (
    SELECT b.tenant, b.simulated, coalesce(b.key_id, '') AS key_id, c.tier, c.query_id, c.cost_usd,
           coalesce(c.prompt_tokens, 0) AS prompt_tokens, coalesce(c.completion_tokens, 0) AS completion_tokens
    FROM calls AS c
    JOIN batches AS b ON b.id = c.batch_id
    -- A call ends after it began: the index on its end serves both.
    WHERE c.finished_at >= CAST(:since AS timestamptz)
      AND c.created_at >= CAST(:since AS timestamptz) AND c.created_at < CAST(:until AS timestamptz)
),
noted AS (
    SELECT DISTINCT ON (d.query_id) d.query_id, p.tenant, d.detail ->> 'workload' AS workload
    FROM paid AS p
    JOIN decisions AS d ON d.query_id = p.query_id AND d.kind = 'route' AND d.at >= CAST(:oldest AS timestamptz)
    ORDER BY d.query_id, d.id DESC
),
named AS (
    SELECT query_id, CASE WHEN workload LIKE 'prompt-%' AND count(*) OVER (PARTITION BY tenant, workload) = 1
                          THEN '' ELSE workload END AS workload
    FROM noted
),
summed AS (
    SELECT p.tenant, p.simulated, p.key_id, coalesce(n.workload, '') AS workload, p.tier, count(*) AS calls,
           sum(p.prompt_tokens) AS prompt_tokens, sum(p.completion_tokens) AS completion_tokens, sum(p.cost_usd) AS cost_usd
    FROM paid AS p
    LEFT JOIN named AS n ON n.query_id = p.query_id
    GROUP BY 1, 2, 3, 4, 5
),
ranked AS (
    SELECT tenant, simulated, workload,
           row_number() OVER (PARTITION BY tenant, simulated ORDER BY sum(cost_usd) DESC, workload) AS place
    FROM summed
    WHERE workload <> ''
    GROUP BY 1, 2, 3
),
fresh AS MATERIALIZED (
    SELECT s.tenant, s.simulated, s.key_id, coalesce(r.workload, '') AS workload, s.tier, sum(s.calls) AS calls,
           sum(s.prompt_tokens) AS prompt_tokens, sum(s.completion_tokens) AS completion_tokens, sum(s.cost_usd) AS cost_usd
    FROM summed AS s
    LEFT JOIN ranked AS r ON r.tenant = s.tenant AND r.simulated = s.simulated AND r.workload = s.workload AND r.place <= 100
    GROUP BY 1, 2, 3, 4, 5
),
gone AS (
    DELETE FROM spend_daily AS s
    WHERE s.day = CAST(:day AS date)
      AND NOT EXISTS (SELECT FROM fresh AS f
                      WHERE f.tenant = s.tenant AND f.simulated = s.simulated AND f.key_id = s.key_id
                        AND f.workload = s.workload AND f.tier = s.tier)
)
INSERT INTO spend_daily (day, tenant, simulated, key_id, workload, tier, calls, prompt_tokens, completion_tokens, cost_usd,
                         summed_at)
SELECT CAST(:day AS date), tenant, simulated, key_id, workload, tier, calls, prompt_tokens, completion_tokens, cost_usd,
       CAST(:looked_at AS timestamptz)
FROM fresh
ON CONFLICT ON CONSTRAINT pk_spend_daily DO UPDATE
SET calls = excluded.calls, prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
    cost_usd = excluded.cost_usd, summed_at = excluded.summed_at
