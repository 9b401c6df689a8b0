-- The timeline of a query: its decisions and its calls, and the audit of its answer, which is the batch's call.
SELECT d.at, 'decision' AS event, d.kind, d.move, d.from_stage, d.to_stage, d.to_state, d.tier, d.router,
       d.score, d.confidence, d.propensity, d.call_id, d.codes, d.reasons, d.detail,
       NULL::text AS deployment, NULL::text AS provider, NULL::text AS model, NULL::text AS outcome,
       NULL::smallint AS status, NULL::double precision AS latency_ms, NULL::integer AS prompt_tokens,
       NULL::integer AS completion_tokens, NULL::numeric AS cost_usd, NULL::numeric AS reserved_usd,
       NULL::text AS finish_reason, NULL::text AS cause, NULL::text AS param, NULL::text AS answered_by,
       NULL::text AS service_tier, NULL::integer AS cached_tokens, NULL::integer AS cache_write_tokens,
       NULL::integer AS cache_write_1h_tokens, NULL::integer AS reasoning_tokens, NULL::integer AS audio_tokens,
       NULL::numeric AS reported_usd, NULL::numeric AS computed_usd, NULL::text AS lane, 1 AS rank, d.id
FROM decisions AS d
WHERE d.query_id = :query_id
UNION ALL
SELECT c.created_at, 'call', c.purpose, NULL, NULL, NULL, NULL, c.tier, NULL,
       NULL, exp(c.mean_logprob), NULL, c.id, NULL,
       CASE WHEN a.query_id IS NOT NULL THEN ARRAY[format(
           'the accepted answer of %s is graded %s, this one %s', a.tier,
           round(CAST(a.grade AS numeric), 3), round(CAST(a.reference_grade AS numeric), 3))] END, NULL,
       c.deployment, c.provider, c.model, c.outcome,
       c.status, c.latency_ms, c.prompt_tokens,
       c.completion_tokens, c.cost_usd, c.reserved_usd,
       c.finish_reason, c.cause, c.param, c.answered_by,
       c.service_tier, c.cached_tokens, c.cache_write_tokens,
       c.cache_write_1h_tokens, c.reasoning_tokens, c.audio_tokens,
       c.reported_usd, c.computed_usd, c.lane, 0, c.id
FROM calls AS c
LEFT JOIN audits AS a ON a.query_id = :query_id AND a.call_id = c.id
WHERE c.query_id = :query_id OR c.id = (SELECT call_id FROM audits WHERE query_id = :query_id)
ORDER BY at, rank, id
