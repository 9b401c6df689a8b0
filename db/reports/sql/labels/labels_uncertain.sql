-- Queries whose labels are all of answers that came up because they were doubtful.
SELECT count(*) AS n
FROM (
    SELECT FROM labels
    WHERE CAST(:batch_ids AS bigint[]) IS NULL OR batch_id = ANY(:batch_ids)
    GROUP BY query_id
    HAVING bool_and(source = 'web-uncertain')
) AS u
