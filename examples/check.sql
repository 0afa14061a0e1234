-- check: are the read models of the examples what the log says?
--
--   psql -f examples/check.sql
--
-- Waits for every projection, then asks the view "difference" of each example that has been
-- created, under whatever name.  Ends with an error if a single row differs.

\set ON_ERROR_STOP on
\set QUIET on

SELECT name, es_wait_for_projection(name, timeout => '30 s') AS caught_up
FROM eventstore.projections
ORDER BY name;

-- One snapshot an example, for the read model and for the log: so an inline example can be
-- checked while others are writing.  (Not before this line: waiting wants to see news.)
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ;

CREATE TEMP TABLE checked (
    example text,
    differences bigint
);
SELECT format('INSERT INTO pg_temp.checked SELECT %L, count(*) FROM %I.difference', schemaname, schemaname)
FROM pg_catalog.pg_views
WHERE viewname = 'difference' AND viewowner = current_user
ORDER BY schemaname
\gexec

SELECT *
FROM pg_temp.checked
ORDER BY example;

DO $$
DECLARE
    wrong text := (SELECT string_agg(example, ', ' ORDER BY example) FROM pg_temp.checked WHERE differences > 0);
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'not what the log says: %', wrong;
    END IF;
END;
$$;

DROP TABLE checked;
