-- The first ten events after a position, of a read without an end, all columns.
\set after random(0, :last)
SELECT * FROM es_read_all(:after, NULL) LIMIT 10;
