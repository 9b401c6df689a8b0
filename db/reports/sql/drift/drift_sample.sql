-- Route decisions from :since until :until with ids from :first to :last: one at random per interval of ids, so that at
-- most :most are read, however long the log is. If there are no more ids than that, all of them.
WITH picked AS MATERIALIZED (
    SELECT CAST(:first AS bigint) + place * s.step + CAST(floor(random() * s.step) AS bigint) AS id
    FROM (SELECT greatest(1, (CAST(:last AS bigint) - CAST(:first AS bigint)) / CAST(:most AS bigint) + 1) AS step) AS s
    CROSS JOIN LATERAL generate_series(0, (CAST(:last AS bigint) - CAST(:first AS bigint)) / s.step) AS place
)
SELECT d.tier, d.score, d.confidence, d.detail ->> 'category' AS category,
       (SELECT nullif(bytes, 2) FROM prompts WHERE query_id = d.query_id) AS body_bytes
FROM picked
-- The limit keeps this a look-up for each id: joined, the whole stretch would be read.
CROSS JOIN LATERAL (
    SELECT * FROM decisions
    WHERE id = picked.id AND kind = 'route' AND router <> 'endpoint'
      AND at >= CAST(:since AS timestamptz) AND at < CAST(:until AS timestamptz)
    LIMIT 1
) AS d
