-- Code that does what it should not.

CREATE EXTENSION eventstore;

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all

-- One worker, so that one projection comes after the other in the same process.
ALTER SYSTEM SET eventstore.max_workers = 1;
SELECT pg_reload_conf();
\c -
SHOW eventstore.max_workers;

-- Somebody who may have projections, and little else.
CREATE ROLE regress_low;
GRANT EXECUTE ON FUNCTION es_append, es_append_events, es_append_batch, es_check_version, es_stream_version TO regress_low;
GRANT EXECUTE ON FUNCTION es_read_stream, es_read_all, es_read_category, es_read_correlation, es_head, es_epoch, es_wait, es_category, es_position_at, es_wait_for_projection, es_projection_state, es_aggregate, eventstore.log_status, eventstore.in_flight, eventstore.projection_figures, eventstore.projection_lag, eventstore.subscription_lag TO regress_low;
GRANT EXECUTE ON FUNCTION es_create_projection, es_alter_projection, es_drop_projection, es_pause_projection, es_resume_projection, es_rebuild_projection, es_run_projection, es_retry_dead_letters TO regress_low;
GRANT SELECT ON ALL TABLES IN SCHEMA eventstore TO regress_low;
CREATE SCHEMA low AUTHORIZATION regress_low;


-- ---- acts ----

-- Events that say what to do, and a handler that does it and notes what came of it.
-- Servers of different versions refuse in different words.
SET ROLE regress_low;
CREATE TABLE low.outcome (n int GENERATED ALWAYS AS IDENTITY, of text, act text, outcome text);
CREATE FUNCTION low.perform(of text, act text) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    outcome text := 'ok';
BEGIN
    BEGIN
        EXECUTE act;
    EXCEPTION
        WHEN OTHERS THEN
            outcome := SQLSTATE || ': ' || regexp_replace(SQLERRM, '^(must (be|have)|permission denied)\y.*', 'denied');
    END;
    INSERT INTO low.outcome (of, act, outcome) VALUES (of, act, outcome);
END $$;
CREATE FUNCTION low.in_worker(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT low.perform('worker', event.data ->> 'act') $$;
CREATE FUNCTION low.inline(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT low.perform('inline', event.data ->> 'act') $$;
CREATE PROCEDURE low.committing() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
SELECT es_create_projection('in worker', 'low.in_worker', categories => '{Act}', batch_size => 1, reset => '');
SELECT es_create_projection('inline', 'low.inline', mode => 'inline', categories => '{Act}', reset => '');
RESET ROLE;

-- What the next projection finds of the process.
CREATE TABLE found (n int GENERATED ALWAYS AS IDENTITY, what jsonb);
CREATE FUNCTION look() RETURNS jsonb
    LANGUAGE sql
    AS $$
    SELECT jsonb_build_object('user', current_user, 'session user', session_user, 'role', current_setting('role'), 'superuser', current_setting('is_superuser'),
        'path', current_setting('search_path'), 'work_mem', current_setting('work_mem'), 'metadata', current_setting('eventstore.metadata'),
        'application', current_setting('application_name'), 'isolation', current_setting('transaction_isolation'), 'read only', current_setting('transaction_read_only'),
        'replication', current_setting('session_replication_role'), 'custom', coalesce(current_setting('low.custom', true), ''), 'timezone', current_setting('timezone'),
        'temp', pg_my_temp_schema() <> 0, 'prepared', (SELECT count(*) FROM pg_prepared_statements), 'cursors', (SELECT count(*) FROM pg_cursors),
        'channels', (SELECT count(*) FROM pg_listening_channels()),
        'advisory locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())) $$;
CREATE FUNCTION look_in_worker(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO found (what) SELECT look() || jsonb_build_object('pid', pg_backend_pid()) $$;
SELECT es_create_projection('look', 'look_in_worker', categories => '{Look}');
SELECT version FROM es_append('Look-1', 'Look');
SELECT es_wait_for_projection('look', timeout => '60 s');
SELECT key, value FROM found, jsonb_each(what) WHERE key <> 'pid' ORDER BY key;

-- All of these: by the worker, and inline with a superuser appending.
CREATE TABLE act (n int GENERATED ALWAYS AS IDENTITY, act text);
INSERT INTO act (act) SELECT unnest(ARRAY[
    -- to be somebody else
    $$SET ROLE postgres$$,
    $$SET LOCAL ROLE postgres$$,
    $$SET ROLE NONE$$,
    $$RESET ROLE$$,
    $$SELECT set_config('role', 'postgres', true)$$,
    $$SELECT set_config('role', 'none', false)$$,
    $$SET SESSION AUTHORIZATION postgres$$,
    $$RESET SESSION AUTHORIZATION$$,
    $$SELECT set_config('session_authorization', 'postgres', false)$$,
    $$ALTER ROLE regress_low SUPERUSER$$,
    $$CREATE ROLE regress_another SUPERUSER$$,
    $$GRANT postgres TO regress_low$$,
    $$GRANT pg_execute_server_program TO regress_low$$,
    $$CREATE FUNCTION low.definer() RETURNS void LANGUAGE sql SECURITY DEFINER AS ''; ALTER FUNCTION low.definer() OWNER TO postgres$$,
    -- to reach out of the database
    $$COPY low.outcome TO PROGRAM 'cat > /dev/null'$$,
    $$COPY low.outcome FROM PROGRAM 'echo'$$,
    $$COPY low.outcome TO '/tmp/eventstore_regress_low'$$,
    $$SELECT pg_read_file('postgresql.conf')$$,
    $$SELECT lo_import('/etc/passwd')$$,
    $$ALTER SYSTEM SET work_mem = '1GB'$$,
    $$SELECT pg_reload_conf()$$,
    $$LOAD 'eventstore'$$,
    $$SELECT pg_terminate_backend(pg_backend_pid())$$,
    $$SELECT pg_cancel_backend(pg_backend_pid())$$,
    -- to change the store
    $$DROP EXTENSION eventstore CASCADE$$,
    $$DROP SCHEMA eventstore CASCADE$$,
    $$SET LOCAL eventstore.restore = on$$,
    $$SET LOCAL session_replication_role = replica$$,
    $$INSERT INTO eventstore.event_log SELECT * FROM eventstore.event_log$$,
    $$UPDATE eventstore.event_log SET data = '{}'$$,
    $$DELETE FROM eventstore.dead_letter$$,
    $$UPDATE eventstore.projection SET owner = 'postgres' WHERE name = 'inline'$$,
    $$UPDATE eventstore.projection_progress SET checkpoint = 0$$,
    -- to leave something behind
    $$CREATE TEMPORARY TABLE t (n int)$$,
    $$CREATE TEMPORARY VIEW v AS SELECT 1$$,
    $$CREATE TEMPORARY SEQUENCE s$$,
    $$CREATE TABLE pg_temp.t (n int)$$,
    $$SELECT 1 INTO TEMPORARY t$$,
    $$CREATE TYPE pg_temp.int8 AS (n int)$$,
    $$PREPARE p AS SELECT 1$$,
    $$DEALLOCATE ALL$$,
    $$DISCARD PLANS$$,
    $$DISCARD ALL$$,
    $$LISTEN low$$,
    $$UNLISTEN *$$,
    $$DECLARE c CURSOR WITH HOLD FOR SELECT 1$$,
    $$DECLARE c CURSOR FOR SELECT 1$$,
    $$CLOSE ALL$$,
    $$SELECT pg_advisory_xact_lock(3)$$,
    -- to set
    $$SET search_path = low$$,
    $$SET LOCAL search_path = low$$,
    $$SELECT set_config('search_path', 'low', false)$$,
    $$SET work_mem = '64kB'$$,
    $$SET timezone = 'Asia/Tokyo'$$,
    $$SET application_name = 'low'$$,
    $$SET low.custom = 'left over'$$,
    $$SET eventstore.metadata = '{"user": "low"}'$$,
    $$RESET ALL$$,
    -- to be another transaction
    $$COMMIT$$,
    $$ROLLBACK$$,
    $$SAVEPOINT s$$,
    $$PREPARE TRANSACTION 'low'$$,
    $$CALL low.committing()$$,
    $$DO 'BEGIN COMMIT; END'$$,
    $$DO 'BEGIN ROLLBACK; END'$$,
    $$SET TRANSACTION ISOLATION LEVEL SERIALIZABLE$$,
    $$SET TRANSACTION READ ONLY$$,
    $$SET CONSTRAINTS ALL DEFERRED$$,
    $$VACUUM low.outcome$$,
    $$CREATE INDEX CONCURRENTLY i ON low.outcome (n)$$,
    -- to meddle with projections
    $$SELECT es_create_projection('new', 'low.in_worker')$$,
    $$SELECT es_alter_projection('in worker', batch_size => 1)$$,
    $$SELECT es_pause_projection('in worker')$$,
    $$SELECT es_resume_projection('in worker')$$,
    $$SELECT es_rebuild_projection('in worker')$$,
    $$SELECT es_run_projection('in worker')$$,
    $$SELECT es_drop_projection('in worker')$$,
    $$SELECT es_retry_dead_letters('in worker')$$,
    $$SELECT es_rebuild_projection('inline')$$,
    $$SELECT es_drop_projection('inline')$$,
    $$SELECT es_pause_projection('look')$$,
    $$SELECT es_wait_for_projection('in worker', 1, '1 s')$$,
    $$SELECT es_projection_state('in worker', 'Act-1')$$,
    -- its own objects
    $$DROP FUNCTION low.in_worker(es_event)$$,
    $$DROP FUNCTION low.inline(es_event)$$,
    -- what it may
    $$CREATE TABLE low.made (n int)$$,
    $$INSERT INTO low.made VALUES (1)$$,
    $$ALTER TABLE low.made ADD text text DEFAULT 'x'$$,
    $$CREATE INDEX ON low.made (n)$$,
    $$TRUNCATE low.made$$,
    $$DROP TABLE low.made$$,
    $$CREATE OR REPLACE PROCEDURE low.committing() LANGUAGE sql AS ''$$,
    $$ALTER TABLE low.outcome ALTER act SET STATISTICS 10$$,
    $$NOTIFY low$$,
    $$SELECT count(*) FROM es_read_all(wait => '0.01 s')$$,
    $$SELECT es_aggregate('Look-1', 'low.nothing')$$,
    $$SELECT es_wait(0)$$]);
-- The inline one gets each of them first, the worker when that is committed.
SELECT look() AS before \gset
SELECT count(*) = (SELECT count(*) FROM act) AS appended FROM act, LATERAL es_append('Act-1', 'Act', jsonb_build_object('act', act.act));
SELECT es_wait_for_projection('in worker', timeout => '60 s');
SELECT a.act, i.outcome AS inline, CASE WHEN i.outcome = w.outcome THEN 'likewise' ELSE w.outcome END AS "by the worker"
FROM act a
LEFT JOIN low.outcome i ON i.act = a.act AND i.of = 'inline'
LEFT JOIN low.outcome w ON w.act = a.act AND w.of = 'worker'
ORDER BY a.n;

-- Nothing is left of it: in this session,
SELECT key, b.value AS before, a.value AS after FROM jsonb_each(:'before') b FULL JOIN jsonb_each(look()) a USING (key) WHERE a.value IS DISTINCT FROM b.value;
-- or in the worker.
CREATE VIEW left_over AS
SELECT key, b.value AS before, a.value AS after
FROM (SELECT * FROM found, jsonb_each(what) WHERE n = (SELECT min(n) FROM found)) b
FULL JOIN (SELECT * FROM found, jsonb_each(what) WHERE n = (SELECT max(n) FROM found)) a USING (key)
WHERE a.value IS DISTINCT FROM b.value;
SELECT version FROM es_append('Look-1', 'Look');
SELECT es_wait_for_projection('look', timeout => '60 s');
SELECT * FROM left_over;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_low';

-- Nor of locks that are a session's.
SET ROLE regress_low;
CREATE FUNCTION low.lock(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_advisory_lock(1), pg_advisory_lock(1), pg_advisory_lock_shared(2, 2); IF event.data ? 'bad' THEN RAISE 'bad'; END IF; END $$;
SELECT es_create_projection('lock', 'low.lock', categories => '{Lock}', on_error => 'skip', max_retries => 0);
RESET ROLE;
SELECT version FROM es_append_events('Lock-1', '[{"type": "T"}, {"type": "T", "data": {"bad": true}}]');
SELECT es_wait_for_projection('lock', timeout => '60 s');
SELECT count(*) FROM eventstore.dead_letters WHERE projection = 'lock';
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory';

-- Of what is set for one event, nothing is left for the next, either.
SET ROLE regress_low;
CREATE FUNCTION low.set(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO low.outcome (of, act, outcome)
    VALUES ('set', concat_ws(', ', current_setting('search_path'), current_setting('work_mem'), nullif(current_setting('eventstore.metadata'), '')), event.version);
    SET search_path = nowhere;
    SET work_mem = '64kB';
    SET LOCAL eventstore.metadata = '{"user": "low"}';
END $$;
SELECT es_create_projection('set', 'low.set', categories => '{Set}');
RESET ROLE;
SELECT version FROM es_append_events('Set-1', '[{"type": "T"}, {"type": "T"}]');
SELECT es_wait_for_projection('set', timeout => '60 s');
SELECT act, outcome FROM low.outcome WHERE of = 'set' ORDER BY n;
SELECT count(es_drop_projection(name)) FROM unnest('{in worker, inline, lock, set}'::text[]) name;


-- ---- what one owns, but needs ----

-- What comes of a statement, in a transaction that is rolled back in any case; with
-- the lines of the CONTEXT that speak of projections.
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    context text;
    left_over text;
BEGIN
    EXECUTE statement;
    SELECT string_agg(name, ', ' ORDER BY name) INTO left_over FROM eventstore.projections;
    RAISE EXCEPTION USING ERRCODE = 'UE000';
EXCEPTION
    WHEN SQLSTATE 'UE000' THEN
        RETURN 'ok; projections: ' || coalesce(left_over, 'none');
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
        RETURN SQLSTATE || ': ' || SQLERRM ||
            (SELECT coalesce(string_agg(E'\n' || regexp_replace(line, 'position \d+', 'position N'), ''), '') FROM regexp_split_to_table(context, '\n') line WHERE line LIKE 'projection%');
END $$;

-- The owner of functions and tables can drop them, also from within a projection;
-- then the code is broken, and nobody else's.  A function goes with its projections.
SET ROLE regress_low;
CREATE TABLE low.kept (n bigint);
CREATE FUNCTION low.destroy(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO low.kept VALUES (event.version); EXECUTE event.data ->> 'act'; INSERT INTO low.kept VALUES (-event.version); END $$;
SELECT es_create_projection('destroy inline', 'low.destroy', mode => 'inline', categories => '{Inline}');
RESET ROLE;
\set VERBOSITY terse
SELECT act, outcome(format($$ SELECT es_append('Inline-1', 'T', jsonb_build_object('act', %L)) $$, act))
FROM unnest(ARRAY['SELECT 1', 'DROP TABLE low.kept', 'DROP FUNCTION low.destroy(es_event)', 'DROP FUNCTION low.destroy(es_event) CASCADE', 'DROP SCHEMA low CASCADE',
    'TRUNCATE low.kept', 'ALTER TABLE low.kept ADD m int', 'ALTER TABLE low.kept RENAME TO lost', 'ALTER FUNCTION low.destroy(es_event) RENAME TO destroyed',
    'CREATE OR REPLACE FUNCTION low.destroy(event public.es_event) RETURNS void LANGUAGE sql AS ''''', 'REVOKE EXECUTE ON FUNCTION low.destroy FROM regress_low, PUBLIC']) act;
\set VERBOSITY default
SELECT es_stream_version('Inline-1');
SELECT count(*) FROM low.kept;
SELECT version FROM es_append('Inline-1', 'T', '{"act": "SELECT 1"}');
TABLE low.kept;
SET ROLE regress_low;
SELECT es_drop_projection('destroy inline');
TRUNCATE low.kept;

-- By the worker.
SELECT es_create_projection('destroy', 'low.destroy', categories => '{Worker}', on_error => 'skip', max_retries => 0);
RESET ROLE;
SELECT count(*) FROM (SELECT es_append('Worker-1', 'T', jsonb_build_object('act', act))
    FROM unnest('{SELECT 1, ALTER TABLE low.kept ADD m int, TRUNCATE low.kept, SELECT 1/0, SELECT 1}'::text[]) act) a;
SELECT es_wait_for_projection('destroy', timeout => '60 s');
SELECT n FROM low.kept;
SELECT version, error FROM eventstore.dead_letters JOIN eventstore.events USING (position) WHERE projection = 'destroy';
SELECT version FROM es_append('Worker-1', 'T', '{"act": "DROP TABLE low.kept"}');
CALL await_state('destroy', 'stopped');
SELECT last_sqlstate, last_error FROM eventstore.projections WHERE name = 'destroy';
SELECT n FROM low.kept;
SELECT es_resume_projection('destroy', skip_failed => true);
SELECT version FROM es_append('Worker-1', 'T', '{"act": "DROP FUNCTION low.destroy(public.es_event)"}');
SELECT es_wait_for_projection('destroy', timeout => '60 s');
SELECT version, sqlstate, error FROM eventstore.dead_letters JOIN eventstore.events USING (position) WHERE projection = 'destroy' AND version > 6;
SELECT version FROM es_append('Worker-1', 'T', '{"act": "DROP FUNCTION low.destroy(public.es_event) CASCADE"}');
CALL await($$ NOT EXISTS (SELECT FROM eventstore.projections WHERE name = 'destroy') $$);
SELECT count(*) FROM pg_proc WHERE pronamespace = 'low'::regnamespace AND proname = 'destroy';
SELECT n FROM low.kept;

-- A superuser's code can do more, and the store stays whole.
CREATE FUNCTION destroy(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE event.data ->> 'act'; END $$;
SELECT es_create_projection('destroy inline', 'destroy', mode => 'inline', categories => '{Inline}', start_after => es_head());
\set VERBOSITY terse
SELECT act, outcome(format($$ SELECT es_append('Inline-1', 'T', jsonb_build_object('act', %L)) $$, act))
FROM unnest(ARRAY['DROP EXTENSION eventstore CASCADE', 'SET eventstore.allow_drop = on; DROP SCHEMA eventstore CASCADE',
    'DROP FUNCTION destroy(es_event) CASCADE', 'ALTER TABLE eventstore.event_log ADD mine int', 'TRUNCATE eventstore.projection', 'DELETE FROM eventstore.projection',
    'DELETE FROM eventstore.projection_progress', 'UPDATE eventstore.projection SET live = false', 'SET eventstore.allow_drop = on; DROP TABLE eventstore.event_log CASCADE',
    'SET eventstore.allow_drop = on; DROP TABLE eventstore.projection CASCADE', 'SET ROLE regress_low', 'SET LOCAL session_replication_role = replica', 'CREATE TEMPORARY TABLE t (n int)']) act;
SELECT outcome($$ SELECT es_append('Inline-1', 'T', '{"act": "SET eventstore.allow_drop = on; DROP EXTENSION eventstore CASCADE"}') $$) !~ '^(ok|XX)' AS refused;
\set VERBOSITY default
SELECT name, state FROM eventstore.projections ORDER BY name;
SELECT version FROM es_append('Inline-1', 'T', '{"act": "SELECT 1"}');
SELECT es_drop_projection('destroy inline');
SELECT es_create_projection('destroy', 'destroy', categories => '{Worker}', start_after => es_head(), on_error => 'skip', max_retries => 0);
SELECT count(*) FROM (SELECT es_append('Worker-2', 'T', jsonb_build_object('act', act))
    FROM unnest(ARRAY['DROP EXTENSION eventstore CASCADE', 'SET eventstore.allow_drop = on; DROP SCHEMA eventstore CASCADE', 'DROP TABLE eventstore.projection CASCADE']) act) a;
-- One table alone: a view takes many locks, and so does the worker.
CALL await('(SELECT count(*) FROM eventstore.dead_letter) = 3');
SELECT state, last_sqlstate, last_error FROM eventstore.projections WHERE name = 'destroy';
SELECT version, l.sqlstate, l.error FROM eventstore.dead_letters l JOIN es_read_stream('Worker-2') USING (position) WHERE projection = 'destroy';
SELECT es_drop_projection('destroy');


-- ---- events that come of events, without end ----

-- An inline handler that appends what it is called for, is stopped.
CREATE FUNCTION again(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_append(event.stream, event.type) $$;
SELECT es_create_projection('again', 'again', mode => 'inline', categories => '{Again}');
SELECT left(outcome($$ SELECT es_append('Again-1', 'T') $$), 5);
SELECT es_stream_version('Again-1');
SELECT es_drop_projection('again');

-- So are two that feed each other; a query, and a reducer.
CREATE FUNCTION ping(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_append('Game-1', 'Ping') $$;
CREATE FUNCTION pong(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_append('Game-2', 'Pong') $$;
SELECT es_create_projection('ping', 'ping', mode => 'inline', types => '{Pong}'), es_create_projection('pong', 'pong', mode => 'inline', types => '{Ping}');
SELECT left(outcome($$ SELECT es_append('Game-1', 'Ping') $$), 5), left(outcome($$ SELECT es_append_batch('{Game-1, Game-2}', '{Ping, Pong}', '{1, 2}') $$), 5);
SELECT es_drop_projection('ping'), es_drop_projection('pong');
SELECT es_create_projection('query', mode => 'inline', categories => '{Again}', query => $$ SELECT a.version FROM es_batch b, LATERAL es_append(b.stream, b.type) a $$);
SELECT left(outcome($$ SELECT es_append('Again-1', 'T') $$), 5);
SELECT es_drop_projection('query');
CREATE FUNCTION fold_again(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(version) FROM es_append('Again-2', event.type) $$;
SELECT es_create_projection('reducer', reducer => 'fold_again', mode => 'inline', categories => '{Again}', partition_by => 'all');
SELECT left(outcome($$ SELECT es_append('Again-1', 'T') $$), 5) IN ('54001', '55000') AS stopped;
SELECT es_drop_projection('reducer');
SELECT es_stream_version('Again-1'), es_stream_version('Again-2'), es_stream_version('Game-1'), es_stream_version('Game-2');

-- With an end they are fine: what the append returns is its own event.
CREATE FUNCTION count_down(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$ BEGIN IF event.data::int > 0 THEN PERFORM es_append(event.stream, 'T', to_jsonb(event.data::int - 1)); END IF; END $$;
SELECT es_create_projection('count down', 'count_down', mode => 'inline', categories => '{Down}');
SELECT version FROM es_append('Down-1', 'T', '5');
SELECT version, data FROM es_read_stream('Down-1');
SELECT version, duplicate FROM es_append('Down-2', 'T', '1', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version, duplicate FROM es_append('Down-2', 'T', '1', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM es_append('Down-2', 'T', '1', expected_version => 2);
SELECT version, data FROM es_read_stream('Down-2');
SELECT count(*) = count(c.event_id) AS "all but the first have a cause" FROM eventstore.events e LEFT JOIN eventstore.events c ON c.event_id::text = e.metadata ->> 'causation_id' WHERE e.stream = 'Down-1' AND e.version > 1;
SELECT es_drop_projection('count down');
-- By the worker, too.
SELECT es_create_projection('count down', 'count_down', categories => '{Down}', start_after => es_head());
SELECT version FROM es_append('Down-3', 'T', '50');
CALL await($$ es_stream_version('Down-3') = 51 $$);
SELECT es_wait_for_projection('count down', timeout => '60 s');
SELECT es_stream_version('Down-3');
SELECT es_drop_projection('count down');

-- An error that somebody catches on the way leaves the rest as it was: who is the
-- cause of what, and that no projection's code runs any more.
CREATE FUNCTION outer_handler(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    BEGIN
        PERFORM es_append('Nested-2', 'Inner', '{"bad": true}');
    EXCEPTION
        WHEN division_by_zero THEN
            PERFORM es_append('Nested-3', 'After');
    END;
    IF event.data ? 'bad' THEN
        RAISE EXCEPTION 'bad, too' USING ERRCODE = 'UE001';
    END IF;
END $$;
CREATE FUNCTION inner_handler(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN IF event.data ? 'bad' THEN PERFORM 1 / 0; END IF; END $$;
SELECT es_create_projection('outer', 'outer_handler', mode => 'inline', types => '{Outer}'), es_create_projection('inner', 'inner_handler', mode => 'inline', types => '{Inner}');
BEGIN;
SELECT version FROM es_append('Nested-1', 'Outer', event_id => '00000000-0000-4000-8000-000000000002');
DO $$
BEGIN
    PERFORM es_append('Nested-1', 'Outer', '{"bad": true}');
EXCEPTION
    WHEN SQLSTATE 'UE001' THEN
        PERFORM es_append('Nested-1', 'Caught');
END $$;
SELECT version FROM es_append('Nested-1', 'Plain');
SELECT es_pause_projection('inner');
COMMIT;
SELECT stream, version, type, metadata FROM eventstore.events WHERE stream LIKE 'Nested-%' ORDER BY position;
SELECT es_drop_projection('outer'), es_drop_projection('inner');


-- ---- planted functions and operators ----

-- What stands on the search_path of a projection, or of a session that calls, is
-- called by nobody but its owner.
SET ROLE regress_low;
CREATE TABLE low.caught (who name);
CREATE FUNCTION low.catch() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO low.caught VALUES (current_user); RETURN true; END $$;
CREATE FUNCTION low.eq(int8, int8) RETURNS boolean LANGUAGE sql AS 'SELECT low.catch() AND $1 OPERATOR(pg_catalog.=) $2';
CREATE FUNCTION low.eq(int4, int4) RETURNS boolean LANGUAGE sql AS 'SELECT low.catch() AND $1 OPERATOR(pg_catalog.=) $2';
CREATE FUNCTION low.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT low.catch() AND $1 OPERATOR(pg_catalog.=) $2';
CREATE FUNCTION low.eq(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT low.catch() AND $1 OPERATOR(pg_catalog.=) $2';
CREATE FUNCTION low.gt(int8, int8) RETURNS boolean LANGUAGE sql AS 'SELECT low.catch() AND $1 OPERATOR(pg_catalog.>) $2';
CREATE FUNCTION low.array_eq(anyarray, anyarray) RETURNS boolean LANGUAGE sql AS 'SELECT low.catch() AND $1 OPERATOR(pg_catalog.=) $2';
CREATE OPERATOR low.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = low.eq);
CREATE OPERATOR low.= (LEFTARG = int4, RIGHTARG = int4, FUNCTION = low.eq);
CREATE OPERATOR low.= (LEFTARG = text, RIGHTARG = text, FUNCTION = low.eq);
CREATE OPERATOR low.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = low.eq);
CREATE OPERATOR low.> (LEFTARG = int8, RIGHTARG = int8, FUNCTION = low.gt);
CREATE FUNCTION low.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() WHERE low.catch()';
CREATE FUNCTION low.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now() WHERE low.catch()';
CREATE FUNCTION low.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT pg_catalog.unnest($1) WHERE low.catch()';
CREATE FUNCTION low.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT pg_catalog.nextval($1) WHERE low.catch()';
SET search_path = low, pg_catalog, public;
CREATE FUNCTION low.busy(event public.es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_append('Busy-1', 'T', expected_version => NULL), es_append_events('Busy-1', '[{"type": "U"}]'), es_check_version('Busy-1', NULL);
    PERFORM count(*) FROM es_read_all(), es_read_category('Busy'), es_read_stream('Busy-1'), es_read_correlation('x');
    PERFORM es_aggregate('Busy-1', 'low.busy_state'), es_projection_state('busy states', 'Busy-1'), es_stream_version('Busy-1'), es_head();
    PERFORM count(*) FROM eventstore.projections, eventstore.dead_letters, eventstore.status, eventstore.blockers;
END $$;
CREATE FUNCTION low.busy_state(state jsonb, event public.es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT coalesce(state, '{}') $$;
CREATE TABLE low.model (n int8);
SELECT es_create_projection('busy', 'low.busy', categories => '{Begin}', on_error => 'park', max_retries => 0, reset => 'DELETE FROM low.model WHERE n = 1::int8');
SELECT es_create_projection('busy inline', 'low.busy', mode => 'inline', categories => '{Begin}');
SELECT es_create_projection('busy states', reducer => 'low.busy_state', mode => 'inline', categories => '{Begin, Busy}', partition_by => 'type');
SELECT es_create_projection('busy query', categories => '{Begin}', query => 'INSERT INTO model SELECT position FROM es_batch WHERE position > 0::int8');
RESET ROLE;
SET search_path = low, pg_catalog, public;
SELECT pg_catalog.count(*) FROM es_append('Begin-1', 'T');
SELECT es_wait_for_projection('busy', timeout => '60 s'), es_wait_for_projection('busy query', timeout => '60 s');
SELECT es_rebuild_projection('busy'), es_rebuild_projection('busy states');
SELECT es_wait_for_projection('busy', timeout => '60 s'), es_run_projection('busy query') OPERATOR(pg_catalog.>=) 0 AS run;
SELECT es_pause_projection('busy'), es_resume_projection('busy'), es_retry_dead_letters('busy'), es_alter_projection('busy', batch_size => 10);
SELECT pg_catalog.count(*) FROM eventstore.projections, eventstore.dead_letters, eventstore.status, eventstore.blockers;
SELECT pg_catalog.count(*) FROM low.model;
SELECT name, state, last_error FROM eventstore.projections WHERE name OPERATOR(pg_catalog.~~) 'busy%' ORDER BY name USING OPERATOR(pg_catalog.<);
RESET search_path;
SELECT DISTINCT who FROM low.caught;
SELECT pg_catalog.count(es_drop_projection(name)) FROM eventstore.projections WHERE name LIKE 'busy%';


-- ---- at the end ----

-- The process was the same all the time, and is as clean as it was.
SELECT version FROM es_append('Look-1', 'Look');
SELECT es_wait_for_projection('look', timeout => '60 s');
SELECT * FROM left_over;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_low';

\set VERBOSITY terse
DROP SCHEMA low CASCADE;
DROP OWNED BY regress_low;
DROP ROLE regress_low;
ALTER SYSTEM RESET eventstore.max_workers;
