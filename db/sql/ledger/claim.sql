-- Claims waiting queries under a lease and, for queries with a call, commits its intent with the claim. Raises the
-- epoch: an earlier claimant can no longer move the query. A query whose reservation does not fit is not claimed:
-- reservation and cap are compared under the row lock of the budget, so that no two claims share the same dollars. It
-- is held while open calls may still free enough; if the reservation is more than all that is unspent, it is lowered
-- (policy degrade, if a tier is below), failed or held. One that is lowered to the fallback has an attempt: so the
-- fallback knows that it comes from a claim.
WITH wanted AS (
    SELECT * FROM json_to_recordset(CAST(:wanted AS json)) AS w (
        query_id bigint, stage text, call_id bigint, purpose text, tier text, deployment text,
        provider text, model text, reserved_usd numeric, price_version text, lower text, lane text)
),
owners AS (
    SELECT DISTINCT b.id AS batch_id, b.tenant
    FROM wanted AS w JOIN queries AS q ON q.id = w.query_id JOIN batches AS b ON b.id = q.batch_id
    -- The ids as an array: a plan made while the table was small would walk all of it for a join.
    WHERE q.id = ANY(ARRAY(SELECT query_id FROM wanted)) AND w.call_id IS NOT NULL
),
rooms AS (
    SELECT g.id, g.batch_id, g.tenant, g.cap_usd - g.reserved_usd - g.settled_usd AS left_usd,
           g.cap_usd - g.settled_usd AS unspent_usd
    FROM budgets AS g
    WHERE g.batch_id IN (SELECT batch_id FROM owners)
       OR (g.tenant IN (SELECT tenant FROM owners) AND g.day = CAST(now() AT TIME ZONE 'UTC' AS date))
    ORDER BY g.id
    FOR UPDATE
),
priced AS (
    SELECT w.*,
           by_batch.id AS batch_budget, by_tenant.id AS tenant_budget,
           w.call_id IS NULL
           OR (sum(w.reserved_usd) OVER (PARTITION BY q.batch_id ORDER BY q.id)
                   <= coalesce(by_batch.left_usd, 'Infinity')
               AND sum(w.reserved_usd) OVER (PARTITION BY b.tenant ORDER BY q.id)
                   <= coalesce(by_tenant.left_usd, 'Infinity')) AS fits,
           w.reserved_usd > least(by_batch.unspent_usd, by_tenant.unspent_usd) AS hopeless,
           b.budget_policy
    FROM wanted AS w
    JOIN queries AS q ON q.id = w.query_id AND q.stage = w.stage
        AND q.state = ANY(CAST(:sources AS text[])) AND q.due_at <= now()
    JOIN batches AS b ON b.id = q.batch_id AND b.cancelled_at IS NULL AND b.paused_at IS NULL
    LEFT JOIN rooms AS by_batch ON by_batch.batch_id = b.id
    LEFT JOIN rooms AS by_tenant ON by_tenant.tenant = b.tenant
    WHERE q.id = ANY(ARRAY(SELECT query_id FROM wanted))
),
claimed AS (
    UPDATE queries AS q
    SET state = 'running', epoch = q.epoch + 1, worker_id = :worker_id, moved_at = now(),
        lease_until = now() + make_interval(secs => :lease_s)
    FROM priced AS p
    WHERE q.id = p.query_id AND p.fits
      AND q.stage = p.stage
      AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, q.batch_id, q.epoch, p.call_id, p.purpose, p.tier, p.deployment, p.provider, p.model,
              p.reserved_usd, p.price_version, p.lane,
              array_remove(ARRAY[p.batch_budget, p.tenant_budget], NULL) AS budget_ids
),
intents AS (
    INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model,
                       worker_id, reserved_usd, price_version, budget_ids, lane)
    SELECT call_id, batch_id, id, epoch, purpose, tier, deployment, provider, model,
           :worker_id, reserved_usd, price_version, budget_ids, lane
    FROM claimed
    WHERE call_id IS NOT NULL
),
reserved AS (
    UPDATE budgets AS g
    SET reserved_usd = g.reserved_usd + taken.usd, largest_usd = greatest(g.largest_usd, taken.largest_usd)
    FROM (
        SELECT r.id, coalesce(sum(p.reserved_usd) FILTER (WHERE c.id IS NOT NULL), 0) AS usd,
               max(p.reserved_usd) AS largest_usd
        FROM rooms AS r
        JOIN priced AS p ON r.id IN (p.batch_budget, p.tenant_budget) AND p.call_id IS NOT NULL
        LEFT JOIN claimed AS c ON c.id = p.query_id
        WHERE EXISTS (SELECT 1 FROM rooms)  -- nothing is joined where there is no budget
        GROUP BY r.id
    ) AS taken
    WHERE g.id = taken.id
),
refusals AS (
    SELECT p.query_id, p.stage, p.tier, p.reserved_usd, p.hopeless, p.budget_policy,
           CASE WHEN p.hopeless AND p.budget_policy = 'degrade' THEN p.lower END AS lower,
           p.budget_policy = 'fail' OR (p.budget_policy = 'degrade' AND p.lower IS NOT NULL) AS yields
    FROM priced AS p
    WHERE NOT p.fits
),
refused AS (
    UPDATE queries AS q
    SET stage = coalesce(r.lower, r.stage),
        tier = CASE WHEN r.lower = :fallback THEN q.tier ELSE coalesce(r.lower, q.tier) END,
        state = CASE WHEN r.lower IS NOT NULL THEN 'ready'
                     WHEN r.hopeless AND r.budget_policy = 'fail' THEN 'failed' ELSE 'held' END,
        finished_at = CASE WHEN r.lower IS NULL AND r.hopeless AND r.budget_policy = 'fail' THEN now() END,
        needs_usd = r.reserved_usd, yields = r.yields,
        prefers = CASE WHEN r.lower IS NULL THEN q.prefers END,
        attempts = CASE WHEN r.lower IS NULL THEN q.attempts WHEN r.lower = :fallback THEN 1 ELSE 0 END,
        lease_until = NULL, moved_at = now()
    FROM refusals AS r
    WHERE q.id = r.query_id
      AND q.stage = r.stage
      AND q.state = ANY(CAST(:sources AS text[]))
    RETURNING q.id, q.batch_id, q.epoch, q.stage, q.state
),
explained AS (
    INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state, tier, router,
                           codes, reasons, detail)
    SELECT q.batch_id, q.id, q.epoch, 'budget',
           CASE q.state WHEN 'failed' THEN 'fail' WHEN 'ready' THEN 'advance' ELSE 'hold' END,
           r.stage, q.stage, q.state, r.tier, 'budget',
           ARRAY[CASE WHEN r.lower IS NOT NULL THEN 'lowered' WHEN r.hopeless THEN 'over_budget'
                      ELSE 'budget_reserved' END],
           CASE WHEN r.lower = :fallback THEN ARRAY['the budget does not cover the reservation of a call at ' || r.stage]
                WHEN r.lower IS NOT NULL THEN ARRAY['the budget does not cover the reservation of a call: lowered from '
                                                    || r.stage || ' to ' || r.lower]
                WHEN r.hopeless THEN ARRAY['the budget does not cover the reservation of a call']
                ELSE ARRAY['the budget does not cover the reservation of a call while other calls are under way'] END,
           jsonb_build_object('needs_usd', r.reserved_usd)
    FROM refused AS q JOIN refusals AS r ON r.query_id = q.id
)
SELECT id, epoch, now() AS at FROM claimed
