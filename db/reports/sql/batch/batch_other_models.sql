-- The names that answers of a batch gave where that was not the name that was asked, snapshots among them.
SELECT deployment, model, answered_by, count(*) AS answers
FROM calls
WHERE batch_id = :batch_id AND answered_by IS NOT NULL
GROUP BY deployment, model, answered_by
ORDER BY deployment, answers DESC, answered_by
