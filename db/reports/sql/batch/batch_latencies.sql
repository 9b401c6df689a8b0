-- Latency of complete calls per tier: a count per bin. Bin n holds 2^(n/4) to 2^((n+1)/4) ms.
SELECT tier, floor(4 * ln(greatest(latency_ms, 1)) / ln(2.0::double precision))::integer AS bin, count(*) AS calls
FROM calls
WHERE batch_id = :batch_id AND outcome = 'ok' AND purpose IN ('answer', 'embed', 'hedge', 'extend') AND latency_ms IS NOT NULL
GROUP BY tier, bin
ORDER BY tier, bin
