-- Per stage: how many are in the broker. The feeder asks ten times a second: nothing but the index is read.
SELECT stage, count(*) AS queued
FROM queries
WHERE state = 'queued'
GROUP BY stage
