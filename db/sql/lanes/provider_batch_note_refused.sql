-- A provider batch has noted fields that its deployment refuses.
UPDATE provider_batches AS p
SET refused = ARRAY(SELECT DISTINCT f FROM unnest(p.refused || CAST(:fields AS text[])) AS f ORDER BY f)
WHERE p.id = :id
RETURNING p.id
