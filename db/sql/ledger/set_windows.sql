-- The windows of stages, which bound how many queries transitions may put into the broker.
INSERT INTO stages (stage, depth_window, rate_per_s)
SELECT * FROM unnest(CAST(:stages AS text[]), CAST(:depth_windows AS integer[]), CAST(:rates_per_s AS float8[]))
ON CONFLICT (stage) DO UPDATE
SET depth_window = excluded.depth_window, rate_per_s = excluded.rate_per_s, updated_at = now()
