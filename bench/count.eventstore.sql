-- How many events there are.
SELECT count(*) FROM es_read_all(0, NULL);
