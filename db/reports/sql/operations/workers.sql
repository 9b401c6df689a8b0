-- Workers that were seen recently, by role.
SELECT w.role, w.name, w.host, w.pid, w.started_at, w.in_flight, w.slots, w.router,
       (extract(epoch FROM now() - w.seen_at))::double precision AS silent_s
FROM workers AS w
WHERE w.stopped_at IS NULL AND w.seen_at > now() - make_interval(secs => :seen_within_s)
ORDER BY w.role, w.name
