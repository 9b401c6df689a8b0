-- The window of a stage, which bounds how many queries transitions may put into the broker.
INSERT INTO stages (stage, depth_window, rate_per_s) VALUES (:stage, :depth_window, :rate_per_s)
ON CONFLICT (stage) DO UPDATE
SET depth_window = :depth_window, rate_per_s = :rate_per_s, updated_at = now()
