-- The first ten events after a position, of a read without an end, all columns.
\set after random(0, :last)
SELECT * FROM yardstick WHERE position > :after ORDER BY position LIMIT 10;
