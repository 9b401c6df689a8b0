-- Queries with labels only of answers that were sampled for their doubt.
SELECT count(*) AS n
FROM (
    SELECT FROM labels
    WHERE CAST(:batch_ids AS bigint[]) IS NULL OR batch_id = ANY(:batch_ids)
    GROUP BY query_id
    HAVING bool_and(source = 'web-uncertain')
) AS u
