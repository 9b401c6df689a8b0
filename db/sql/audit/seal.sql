-- Adds one link to the chain of a batch: over its decisions with first < id ≤ last that no seal covers yet. Adds none
-- where there are none: another process may be sealing the same batch.
WITH before AS (
    SELECT s.place, s.hash, s.ids[cardinality(s.ids)] AS last_id
    FROM seals AS s WHERE s.batch_id = :batch_id ORDER BY s.place DESC LIMIT 1
),
covered AS (
    SELECT array_agg(d.id ORDER BY d.id) AS ids,
           string_agg(pointsman_decision_hash(d), ''::bytea ORDER BY d.id) AS row_hashes
    FROM decisions AS d
    WHERE d.id > :first AND d.id <= :last AND d.batch_id = :batch_id
      AND d.id > coalesce((SELECT last_id FROM before), 0)
)
INSERT INTO seals (batch_id, place, ids, row_hashes, hash)
SELECT :batch_id, coalesce((SELECT place FROM before), 0) + 1, c.ids, c.row_hashes,
       sha256(coalesce((SELECT hash FROM before), (SELECT sha256(convert_to(b.public_id, 'UTF8')) FROM batches AS b
                                                   WHERE b.id = :batch_id))
              || convert_to(array_to_string(c.ids, ','), 'UTF8') || c.row_hashes)
FROM covered AS c
WHERE c.ids IS NOT NULL
ON CONFLICT (batch_id, place) DO NOTHING
RETURNING cardinality(ids) AS sealed
