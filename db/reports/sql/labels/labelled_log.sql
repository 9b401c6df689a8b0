-- Answered queries with a labelled answer, in order of id after :after: the choice, its propensity, the outcome.
-- Queries that the budget lowered before the chosen tier was called are left out: the answer of that tier is unknown.
-- In a :strained batch nothing counts as explored (see strained_batches). Answers that were sampled for their doubt
-- count only with :all_labels: they are not a sample of the log.
SELECT q.id, p.body, p.options, d.tier AS chosen, a.tier AS stood,
       CASE WHEN q.batch_id = ANY(:strained) THEN 1 ELSE d.propensity END AS propensity,
       own.grade AS chosen_grade, final.grade,
       coalesce((SELECT sum(coalesce(c.cost_usd, c.reserved_usd)) FROM calls AS c
                 WHERE c.query_id = q.id AND c.purpose <> 'route'), 0) AS cost_usd
FROM queries AS q
JOIN batches AS b ON b.id = q.batch_id
JOIN prompts AS p ON p.query_id = q.id
JOIN answers AS a ON a.query_id = q.id
JOIN LATERAL (
    SELECT id, tier, propensity FROM decisions WHERE query_id = q.id AND kind = 'route' ORDER BY id DESC LIMIT 1
) AS d ON true
JOIN LATERAL (
    SELECT grade FROM labels
    WHERE query_id = q.id AND tier = a.tier AND (:all_labels OR source <> 'web-uncertain')
    ORDER BY id DESC LIMIT 1
) AS final ON true
LEFT JOIN LATERAL (
    SELECT grade FROM labels
    WHERE query_id = q.id AND tier = d.tier AND (:all_labels OR source <> 'web-uncertain')
    ORDER BY id DESC LIMIT 1
) AS own ON true
WHERE q.id > :after
  AND (CAST(:batch_ids AS bigint[]) IS NULL OR q.batch_id = ANY(:batch_ids))
  AND EXISTS (SELECT FROM labels WHERE query_id = q.id)
  AND b.purged_at IS NULL
  AND NOT EXISTS (
      SELECT FROM decisions AS l
      WHERE l.query_id = q.id AND l.kind = 'budget' AND l.move = 'advance' AND l.from_stage = d.tier AND l.id > d.id)
ORDER BY q.id
LIMIT :rows
