-- Tokens of all calls of a batch, including routers and rejected answers.
SELECT coalesce(sum(prompt_tokens), 0) AS prompt_tokens, coalesce(sum(cached_tokens), 0) AS cached_tokens,
       coalesce(sum(completion_tokens), 0) AS completion_tokens,
       coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens
FROM calls WHERE batch_id = :batch_id AND outcome IS NOT NULL
