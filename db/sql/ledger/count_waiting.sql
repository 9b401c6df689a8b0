-- Queries in the broker per stage. The feeder asks ten times a second: only the index is read.
SELECT stage, count(*) AS queued
FROM queries
WHERE state = 'queued'
GROUP BY stage
