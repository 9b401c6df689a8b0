-- A provider batch, and what became of the batch of its queries.
SELECT p.*, b.public_id, b.cancelled_at IS NOT NULL OR b.ended_at IS NOT NULL AS is_unwanted,
       b.paused_at IS NOT NULL AS is_paused,
       EXISTS (SELECT FROM provider_batches AS o
               WHERE o.batch_id = p.batch_id AND o.id <> p.id AND o.state <> 'done') AS open_siblings,
       extract(epoch FROM b.deadline - now())::double precision AS deadline_in_s,
       p.give_up_at <= now() AS is_over_due,
       extract(epoch FROM now() - p.cancelling_at)::double precision AS cancelling_s,
       extract(epoch FROM now() - p.submitted_at)::double precision AS age_s,
       extract(epoch FROM p.creating_at)::double precision AS creating_unix_s,
       extract(epoch FROM now() - coalesce(p.arrives_by, p.creating_at))::double precision AS since_create_s
FROM provider_batches AS p JOIN batches AS b ON b.id = p.batch_id
WHERE p.id = :id
