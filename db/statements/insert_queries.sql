-- One hot row per id of the given inclusive ranges.
INSERT INTO queries (id, batch_id, stage, state)
SELECT id, :batch_id, :stage, :state
FROM unnest(CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[])) AS block (first, last),
     generate_series(block.first, block.last) AS id
