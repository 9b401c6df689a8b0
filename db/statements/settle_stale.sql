-- Intents whose outcome nobody reported within a lease: unknown, charged at the reservation.
-- A late result still replaces this.
UPDATE calls
SET outcome = 'unknown', cost_usd = reserved_usd, finished_at = now()
WHERE outcome IS NULL AND created_at < now() - make_interval(secs => :older_than_s)
  AND created_at > now() - interval '40 days'
  AND pg_postmaster_start_time() < now() - make_interval(secs => :lease_s)
