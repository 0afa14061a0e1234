-- How many events there are.
SELECT count(*) FROM yardstick WHERE position > 0;
