-- Takes back what a test has set for the whole server by ALTER SYSTEM.
SELECT 'ALTER SYSTEM RESET ' || name
FROM pg_file_settings
WHERE sourcefile LIKE '%/postgresql.auto.conf' AND name LIKE 'eventstore.%' \gexec
SELECT pg_reload_conf();
