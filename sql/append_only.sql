-- The log takes events through the append functions only, and keeps them.

CREATE EXTENSION eventstore;

SELECT version FROM es_append_events('Order-1', '[{"type": "Placed", "data": {"n": 1}}, {"type": "Paid"}]');
SELECT md5(string_agg(e::text, ' ' ORDER BY position)) AS sum FROM eventstore.events e \gset

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- All ways to write, tried by a role that was given all rights, and by a superuser
-- who slips.
CREATE TABLE attempt (
    n int GENERATED ALWAYS AS IDENTITY,
    statement text
);
INSERT INTO attempt (statement)
SELECT format(s, t)
FROM unnest(ARRAY['eventstore.event_log', 'eventstore.stream', 'eventstore.event_type']) t,
    unnest(ARRAY[
        'INSERT INTO %1$s SELECT * FROM %1$s LIMIT 1',
        'DELETE FROM %1$s',
        'DELETE FROM %1$s WHERE false',
        'DELETE FROM ONLY %1$s USING generate_series(1, 2)',
        'TRUNCATE %1$s',
        'TRUNCATE %1$s CASCADE']) s;
INSERT INTO attempt (statement) VALUES
    ('UPDATE eventstore.event_log SET data = ''{}'''),
    ('UPDATE eventstore.event_log SET data = data WHERE false'),
    ('UPDATE eventstore.event_log SET position = position + 1'),
    ('UPDATE eventstore.stream SET name = name || ''x'''),
    ('UPDATE eventstore.stream SET name = ''Order-2'' WHERE name = ''None'''),
    ('UPDATE eventstore.event_type SET type = ''Forged'''),
    ('UPDATE eventstore.event_type SET type = type WHERE false'),
    ('INSERT INTO eventstore.event_log SELECT 99, stream_key, 99, created_at, type_key, gen_random_uuid(), stream, data FROM eventstore.event_log LIMIT 1'),
    ('INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log ON CONFLICT DO NOTHING'),
    ('INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log ON CONFLICT (position) DO UPDATE SET data = ''{}'''),
    ('INSERT INTO eventstore.stream SELECT * FROM eventstore.stream ON CONFLICT (name) DO UPDATE SET name = ''Forged-1'''),
    ('MERGE INTO eventstore.event_log l USING eventstore.stream s ON l.stream_key = s.stream_key WHEN MATCHED THEN UPDATE SET data = ''{}'''),
    ('MERGE INTO eventstore.event_log l USING eventstore.stream s ON l.stream_key = s.stream_key WHEN MATCHED THEN DELETE'),
    ('MERGE INTO eventstore.stream s USING generate_series(1, 1) g ON false WHEN NOT MATCHED THEN INSERT (stream_key, name) VALUES (99, ''Forged-1'')'),
    ('WITH gone AS (DELETE FROM eventstore.event_log RETURNING *) SELECT count(*) FROM gone'),
    ('TRUNCATE eventstore.event_log, eventstore.stream, eventstore.event_type');

CREATE ROLE regress_writer;
GRANT USAGE ON SCHEMA eventstore TO regress_writer;
GRANT ALL ON ALL TABLES IN SCHEMA eventstore TO regress_writer;
GRANT SELECT ON attempt TO regress_writer;
SET ROLE regress_writer;
SELECT left(outcome(statement), 5) AS outcome, count(*) FROM attempt GROUP BY 1;
RESET ROLE;
SELECT statement, outcome(statement) FROM attempt ORDER BY n;

-- COPY, too.
COPY eventstore.stream (stream_key, name) FROM stdin;
99	Forged-1
\.

-- Nor does a setting that turns off the triggers of others.
SET session_replication_role = replica;
SELECT left(outcome(statement), 5) AS outcome, count(*) FROM attempt GROUP BY 1;
SET session_replication_role = local;
SELECT left(outcome(statement), 5) AS outcome, count(*) FROM attempt GROUP BY 1;
RESET session_replication_role;

-- Inside a function, a trigger or a rule it is the same.
CREATE TABLE door (n int);
CREATE RULE through AS ON INSERT TO door DO INSTEAD DELETE FROM eventstore.event_log;
INSERT INTO door VALUES (1);
\echo :SQLSTATE
DROP TABLE door;

-- Not even one's own event can be taken back in the same transaction.
BEGIN;
SELECT version FROM es_append('Order-1', 'Shipped');
DELETE FROM eventstore.event_log WHERE version = 3;
\echo :SQLSTATE
ROLLBACK;
SELECT md5(string_agg(e::text, ' ' ORDER BY position)) = :'sum' AS untouched FROM eventstore.events e;

-- Nobody is kept from appending by all that.
SELECT version FROM es_append('Order-1', 'Shipped', expected_version => 2);
SET session_replication_role = replica;
SELECT version FROM es_append('Order-1', 'Returned', expected_version => 3);
RESET session_replication_role;


-- ---- dropping the log ----

-- A log that holds events is not dropped by mistake.
SELECT statement, outcome(statement)
FROM unnest(ARRAY[
    'DROP EXTENSION eventstore',
    'DROP EXTENSION eventstore CASCADE',
    'DROP SCHEMA eventstore',
    'DROP SCHEMA eventstore CASCADE',
    'DROP TABLE eventstore.event_log',
    'DROP TABLE eventstore.event_log CASCADE',
    'DROP TABLE attempt, eventstore.stream CASCADE',
    'DROP FUNCTION eventstore.guard() CASCADE']) statement;
SELECT count(*) FROM es_read_stream('Order-1');

-- Nor with all else that a role owns.
SELECT current_database() AS home \gset
CREATE DATABASE regress_owned;
\c regress_owned
CREATE ROLE regress_owner SUPERUSER;
SET ROLE regress_owner;
CREATE EXTENSION eventstore;
SELECT version FROM es_append('Order-1', 'Placed');
RESET ROLE;
DO $$
BEGIN
    -- until the background worker has come, and rests
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN (SELECT recorded_head = head FROM eventstore.status);
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
DROP OWNED BY regress_owner;
DROP OWNED BY regress_owner CASCADE;
SELECT count(*) FROM es_read_all();
\c :home
DROP DATABASE regress_owned;
DROP ROLE regress_owner;

-- An event that is not yet committed counts.
CREATE DATABASE regress_second;
\c regress_second
CREATE EXTENSION eventstore;
BEGIN;
SELECT version FROM es_append('Order-1', 'Placed');
DROP EXTENSION eventstore;
ROLLBACK;

-- An empty log may go, and come again.
DROP EXTENSION eventstore;
SELECT count(*) FROM pg_namespace WHERE nspname = 'eventstore';
CREATE EXTENSION eventstore;
SELECT version FROM es_append('Order-1', 'Placed');
SELECT stream, version, type FROM es_read_all();

-- Who means it, says so.
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore;
RESET eventstore.allow_drop;
SELECT count(*) FROM pg_namespace WHERE nspname = 'eventstore';

-- What comes after is another log: nothing of the former one is seen, and backends
-- that knew it go on.
CREATE EXTENSION eventstore;
SELECT count(*) FROM es_read_all();
SELECT version FROM es_append('Order-1', 'Placed', expected_version => 0);
SELECT stream, version, type FROM es_read_all();

-- A drop that is rolled back has not happened.
BEGIN;
SET LOCAL eventstore.allow_drop = on;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SELECT version FROM es_append('Order-9', 'Placed', expected_version => 0);
ROLLBACK;
SELECT version FROM es_append('Order-1', 'Paid', expected_version => 1);
SELECT stream, version, type FROM es_read_all();
SELECT count(*) FROM eventstore.blockers;

-- Into another schema; and not over a schema that somebody else has made.
SET eventstore.allow_drop = on;
DROP EXTENSION eventstore CASCADE;
CREATE SCHEMA lib;
CREATE EXTENSION eventstore SCHEMA lib;
SELECT version FROM lib.es_append('Order-1', 'Placed');
SELECT stream, version, type FROM lib.es_read_all();
SELECT stream, category FROM eventstore.streams;
SELECT count(*) FROM eventstore.status;
SELECT version FROM es_append('Order-1', 'Placed');
\echo :SQLSTATE
RESET eventstore.allow_drop;
DROP SCHEMA lib CASCADE;
SELECT count(*) FROM lib.es_read_all();
SET eventstore.allow_drop = on;
DROP SCHEMA lib CASCADE;
CREATE SCHEMA eventstore;
\set SHOW_CONTEXT never
CREATE EXTENSION eventstore;
\echo :SQLSTATE
\c :home
DROP DATABASE regress_second;
DROP OWNED BY regress_writer;
DROP ROLE regress_writer;
