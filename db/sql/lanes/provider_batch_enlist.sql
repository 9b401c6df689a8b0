-- Queries join a provider batch that is being formed: ready → batched under a raised epoch, each with the intent of its
-- call at the lane's price and the decision that says why. One whose reservation does not fit its budgets stays where it
-- is: reservation and cap are compared under the row lock of the budget, as in a claim.
WITH forming AS (
    SELECT p.* FROM provider_batches AS p
    WHERE p.id = :id AND p.epoch = :epoch AND p.state = 'forming'
    FOR UPDATE
),
wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS w (
        query_id bigint, epoch integer, call_id bigint, reserved_usd numeric, price_version text, tokens bigint,
        left_out text[])
),
rooms AS (
    SELECT g.id, g.batch_id, g.tenant, g.cap_usd - g.reserved_usd - g.settled_usd AS left_usd
    FROM budgets AS g
    WHERE g.batch_id = (SELECT batch_id FROM forming)
       OR (g.tenant = (SELECT b.tenant FROM batches AS b JOIN forming AS f ON f.batch_id = b.id)
           AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date))
    ORDER BY g.id
    FOR UPDATE
),
priced AS (
    SELECT w.*, f.tier, f.batch_id, f.deployment, f.provider, f.model, f.marker, f.reason,
           sum(w.reserved_usd) OVER (ORDER BY w.query_id)
               <= coalesce((SELECT min(r.left_usd) FROM rooms AS r), 'Infinity') AS fits
    FROM wanted AS w CROSS JOIN forming AS f
    JOIN batches AS b ON b.id = f.batch_id AND b.cancelled_at IS NULL AND b.ended_at IS NULL
),
enlisted AS (
    UPDATE queries AS q
    SET state = 'batched', epoch = q.epoch + 1, worker_id = :worker_id, moved_at = now(), due_at = now()
    FROM priced AS p
    -- The ids as an array: a plan made while the table was small would walk all of it for a join.
    WHERE q.id = ANY(ARRAY(SELECT query_id FROM wanted)) AND q.id = p.query_id AND p.fits
      AND q.batch_id = p.batch_id AND q.stage = p.tier AND q.epoch = p.epoch
      AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, q.epoch, p.call_id, p.tier, p.batch_id, p.deployment, p.provider, p.model, p.marker, p.reason,
              p.reserved_usd, p.price_version, p.tokens, p.left_out
),
intents AS (
    INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, worker_id,
                       reserved_usd, price_version, budget_ids, lane, provider_batch_id, left_out)
    SELECT call_id, batch_id, id, epoch, 'answer', tier, deployment, provider, model, :worker_id,
           reserved_usd, price_version, ARRAY(SELECT r.id FROM rooms AS r), 'batch', :id, left_out
    FROM enlisted
),
reserved AS (
    UPDATE budgets AS g
    SET reserved_usd = g.reserved_usd + (SELECT sum(e.reserved_usd) FROM enlisted AS e),
        largest_usd = greatest(g.largest_usd, (SELECT max(p.reserved_usd) FROM priced AS p))
    WHERE g.id IN (SELECT r.id FROM rooms AS r) AND EXISTS (SELECT FROM enlisted)
),
logged AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router, call_id,
                           codes, reasons, detail)
    SELECT batch_id, id, epoch, 'lane', 'batch', tier, tier, 'batched', tier, 'planner', call_id,
           ARRAY['batch_lane'], ARRAY[reason],
           jsonb_build_object('lane', 'batch', 'deployment', deployment, 'provider_batch', marker)
    FROM enlisted
    ORDER BY id
)
UPDATE provider_batches AS p
SET queries = p.queries + t.queries, tokens = p.tokens + t.tokens,
    lease_until = greatest(p.lease_until, now() + make_interval(secs => :lease_s))
FROM (SELECT count(*) AS queries, coalesce(sum(tokens), 0) AS tokens FROM enlisted) AS t
WHERE p.id IN (SELECT id FROM forming)
RETURNING t.queries AS joined, (SELECT count(*) FROM priced WHERE NOT fits) AS too_dear
