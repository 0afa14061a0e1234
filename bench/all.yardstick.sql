-- A page of 1,000 events from anywhere in the log, all columns, to the client.
\set after random(:first, :last)
SELECT * FROM yardstick WHERE position > :after ORDER BY position LIMIT 1000;
