-- Commits the intent of a further call under a claim that still holds, and renews its lease (that of a query in a
-- provider batch is the batch's). A row without a query is a call that serves several (the LLM router). A grader's call
-- with an epoch needs the decision of its batch's pilot under that epoch, of a batch that has neither ended nor been
-- cancelled, and renews its lease. A call that does not fit its budget is not sent. An intent that an earlier attempt
-- committed is left alone.
WITH intents AS (
    SELECT * FROM jsonb_to_recordset(CAST(:intents AS jsonb)) AS m (
        call_id bigint, query_id bigint, batch_id bigint, epoch integer, purpose text, tier text,
        deployment text, provider text, model text, reserved_usd numeric, price_version text, lane text)
    WHERE NOT EXISTS (
        SELECT 1 FROM calls AS c WHERE c.id = m.call_id AND c.created_at > now() - interval '1 day')
),
rooms AS (
    SELECT g.id, g.batch_id, g.tenant, g.cap_usd - g.reserved_usd - g.settled_usd AS left_usd
    FROM budgets AS g
    WHERE g.batch_id IN (SELECT batch_id FROM intents)
       OR (g.day = CAST(now() AT TIME ZONE 'UTC' AS date)
           AND g.tenant IN (SELECT b.tenant FROM intents AS m JOIN batches AS b ON b.id = m.batch_id))
    ORDER BY g.id
    FOR UPDATE
),
priced AS (
    SELECT m.call_id, by_batch.id AS batch_budget, by_tenant.id AS tenant_budget,
           sum(m.reserved_usd) OVER (PARTITION BY m.batch_id ORDER BY m.call_id)
               <= coalesce(by_batch.left_usd, 'Infinity')
           AND sum(m.reserved_usd) OVER (PARTITION BY b.tenant ORDER BY m.call_id)
               <= coalesce(by_tenant.left_usd, 'Infinity') AS fits
    FROM intents AS m
    JOIN batches AS b ON b.id = m.batch_id
    LEFT JOIN rooms AS by_batch ON by_batch.batch_id = b.id
    LEFT JOIN rooms AS by_tenant ON by_tenant.tenant = b.tenant
),
renewed AS (
    UPDATE queries AS q
    SET lease_until = CASE WHEN q.state = 'running' THEN now() + make_interval(secs => :lease_s) END
    FROM intents AS m, priced AS p
    WHERE q.id = m.query_id AND q.epoch = m.epoch AND q.state IN ('running', 'batched') AND p.call_id = m.call_id AND p.fits
    RETURNING q.id
),
deciding AS (
    UPDATE pilots AS t
    SET lease_until = greatest(t.lease_until, now() + make_interval(secs => :lease_s))
    FROM intents AS m, priced AS p, batches AS b
    WHERE m.purpose = 'grade' AND m.epoch > 0 AND p.call_id = m.call_id AND p.fits
      AND t.batch_id = m.batch_id AND t.epoch = m.epoch AND t.state = 'deciding'
      AND b.id = m.batch_id AND b.ended_at IS NULL AND b.cancelled_at IS NULL
    RETURNING t.batch_id
),
intended AS (
    INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model,
                       worker_id, reserved_usd, price_version, budget_ids, lane)
    SELECT m.call_id, m.batch_id, m.query_id, m.epoch, m.purpose, m.tier, m.deployment, m.provider, m.model,
           :worker_id, m.reserved_usd, m.price_version,
           array_remove(ARRAY[p.batch_budget, p.tenant_budget], NULL), m.lane
    FROM intents AS m
    JOIN priced AS p ON p.call_id = m.call_id AND p.fits
    LEFT JOIN renewed AS r ON r.id = m.query_id
    WHERE CASE WHEN m.purpose = 'grade' AND m.epoch > 0
               THEN EXISTS (SELECT FROM deciding AS d WHERE d.batch_id = m.batch_id)
               ELSE m.query_id IS NULL OR r.id IS NOT NULL END
    RETURNING id, created_at, reserved_usd
),
reserved AS (
    UPDATE budgets AS g
    SET reserved_usd = g.reserved_usd + taken.usd
    FROM (
        SELECT r.id, sum(i.reserved_usd) AS usd
        FROM rooms AS r
        JOIN priced AS p ON r.id IN (p.batch_budget, p.tenant_budget)
        JOIN intended AS i ON i.id = p.call_id
        GROUP BY r.id
    ) AS taken
    WHERE g.id = taken.id
)
SELECT id, created_at AS at FROM intended
