-- What must not happen to projections.

CREATE EXTENSION eventstore;
\set SHOW_CONTEXT never

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all

CREATE ROLE keeper LOGIN;
CREATE ROLE clerk LOGIN;
CREATE ROLE watcher LOGIN;
GRANT USAGE ON SCHEMA eventstore TO keeper, clerk;
GRANT CREATE ON SCHEMA public TO keeper, clerk;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO keeper, clerk;
GRANT TEMPORARY ON DATABASE contrib_regression TO clerk;


-- ---- the appender's temporary tables ----

-- Who appends runs the owner's code, but does not choose the tables it writes to.
CREATE TABLE read_model (n bigint);
CREATE FUNCTION keep(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO read_model VALUES (event.version); END $$;
SELECT es_create_projection('kept', 'keep', mode => 'inline', types => '{Kept}');
SELECT es_create_projection('queried', query => 'INSERT INTO read_model SELECT 100 + version FROM es_batch', mode => 'inline', types => '{Kept}');
SET SESSION AUTHORIZATION clerk;
CREATE TEMPORARY TABLE read_model (n bigint);
GRANT ALL ON read_model TO PUBLIC;
CREATE FUNCTION pg_temp.take_over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE clerk SUPERUSER'; RETURN NEW; END $$;
CREATE TRIGGER take_over BEFORE INSERT ON read_model FOR EACH ROW EXECUTE FUNCTION pg_temp.take_over();
SELECT version FROM es_append('Temp-1', 'Kept');
SELECT count(*) FROM pg_temp.read_model;
RESET SESSION AUTHORIZATION;
SELECT rolsuper FROM pg_roles WHERE rolname = 'clerk';
SELECT n FROM public.read_model ORDER BY n;
DROP TABLE pg_temp.read_model;
SELECT es_drop_projection('kept'), es_drop_projection('queried');

-- Nor does a search_path that puts them first help.
SET search_path = pg_temp, public;
SELECT es_create_projection('kept', 'public.keep', mode => 'inline', types => '{Kept}');
RESET search_path;
CREATE TEMPORARY TABLE read_model (n bigint);
SELECT version FROM es_append('Temp-1', 'Kept');
SELECT count(*) FROM pg_temp.read_model;
DROP TABLE pg_temp.read_model;
SELECT es_drop_projection('kept');


-- ---- a function that has been replaced ----

-- A function of the reducer's name and arguments is not a reducer if it returns
-- something else.
CREATE FUNCTION add_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
SELECT es_create_projection('sums', reducer => 'add_up', mode => 'inline', types => '{Summed}');
SELECT es_create_projection('late_sums', reducer => 'add_up', types => '{Summed}', on_error => 'skip', max_retries => 0);
SELECT version FROM es_append('Sum-1', 'Summed');
SELECT es_wait_for_projection('late_sums', timeout => '60 s');
ALTER FUNCTION add_up(jsonb, es_event) RENAME TO add_up_well;
CREATE FUNCTION add_up(state jsonb, event es_event) RETURNS int LANGUAGE sql AS 'SELECT 4';
SELECT version FROM es_append('Sum-1', 'Summed');
\echo :SQLSTATE
ALTER FUNCTION add_up(jsonb, es_event) RENAME TO add_up_int;
CREATE FUNCTION add_up(state jsonb, event es_event) RETURNS bigint LANGUAGE sql AS 'SELECT 4::bigint';
SELECT version FROM es_append('Sum-1', 'Summed');
\echo :SQLSTATE
SELECT es_aggregate('Sum-1', 'add_up');
\echo :SQLSTATE
ALTER FUNCTION add_up(jsonb, es_event) RENAME TO add_up_bigint;
CREATE FUNCTION add_up(state jsonb, event es_event) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT state';
SELECT version FROM es_append('Sum-1', 'Summed');
\echo :SQLSTATE

-- A worker is no more gullible, and lets no event pass for it.
SELECT es_drop_projection('sums');
SELECT version FROM es_append('Sum-1', 'Summed');
CALL await_state('late_sums', 'stopped');
SELECT last_sqlstate, last_error, dead_letters FROM eventstore.projections WHERE name = 'late_sums';
DROP FUNCTION add_up CASCADE;
ALTER FUNCTION add_up_well(jsonb, es_event) RENAME TO add_up;
SELECT name, state FROM eventstore.projections;


-- ---- errors that are about no event ----

-- The code worked, and then the owner may not call it any more.  No event is to blame.
CREATE FUNCTION note(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO noted VALUES (event.version); END $$;
REVOKE EXECUTE ON FUNCTION note FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note TO keeper;
CREATE TABLE noted (n bigint);
GRANT INSERT ON noted TO keeper;
SET ROLE keeper;
SELECT es_create_projection('skips', 'note', types => '{Noted}', on_error => 'skip', max_retries => 0);
SELECT es_create_projection('parks', 'note', types => '{Noted}', on_error => 'park', max_retries => 0);
RESET ROLE;
SELECT version FROM es_append('Note-1', 'Noted');
SELECT es_wait_for_projection('skips', timeout => '60 s'), es_wait_for_projection('parks', timeout => '60 s');
REVOKE EXECUTE ON FUNCTION note FROM keeper;
SELECT version FROM es_append('Note-1', 'Noted');
CALL await_state('skips', 'stopped');
CALL await_state('parks', 'stopped');
SELECT name, last_sqlstate, last_error, failed_position, dead_letters FROM eventstore.projections ORDER BY name;
GRANT EXECUTE ON FUNCTION note TO keeper;
SELECT es_resume_projection('skips'), es_resume_projection('parks');
SELECT es_wait_for_projection('skips', timeout => '60 s'), es_wait_for_projection('parks', timeout => '60 s');
SELECT n, count(*) FROM noted GROUP BY n ORDER BY n;
SELECT es_drop_projection('skips'), es_drop_projection('parks');


-- ---- code that appends ----

-- A reducer that appended an event for itself would fold it, and forget that.
CREATE FUNCTION appends(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF event.type = 'Outer' THEN
        PERFORM es_append('Inner-1', 'Inner');
    END IF;
    RETURN add_up(state, event);
END $$;
SELECT es_create_projection('folds', reducer => 'appends', mode => 'inline', partition_by => 'all', types => '{Outer, Inner}');
SELECT version FROM es_append('Outer-1', 'Outer');
\echo :SQLSTATE
SELECT es_stream_version('Outer-1'), es_stream_version('Inner-1'), es_projection_state('folds', 'all');
SELECT version FROM es_append('Inner-1', 'Inner');
SELECT es_drop_projection('folds');

-- What it does not fold it may append.
SELECT es_create_projection('folds', reducer => 'appends', mode => 'inline', partition_by => 'all', types => '{Outer}');
SELECT version FROM es_append('Outer-1', 'Outer');
SELECT es_stream_version('Inner-1'), es_projection_state('folds', 'all');
SELECT es_drop_projection('folds');

-- Queries whose events make other queries run, more of them than plans are kept.
CREATE TABLE links (link int, n bigint);
SET client_min_messages = warning;
DO $$
BEGIN
    FOR i IN 1 .. 260 LOOP
        PERFORM es_create_projection('link' || i, query => format('INSERT INTO links SELECT %s, version FROM es_batch', i), mode => 'inline', types => ARRAY['Link' || i]);
    END LOOP;
END $$;
RESET client_min_messages;
SELECT es_create_projection('chain', query => $$ SELECT es_append('Link-' || i, 'Link' || i) FROM es_batch, generate_series(1, 260) i $$, mode => 'inline', types => '{Go}');
SELECT version FROM es_append('Chain-1', 'Go');
SELECT version FROM es_append('Chain-1', 'Go');
SELECT n, count(*), count(DISTINCT link) FROM links GROUP BY n ORDER BY n;
DO $$
BEGIN
    PERFORM es_drop_projection(name) FROM eventstore.projections;
END $$;

-- A trigger in the midst of an append cannot make a projection of its event.
CREATE FUNCTION eager() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_create_projection('eager', 'keep', mode => 'inline', types => '{Eager}');
    RETURN NULL;
END $$;
CREATE TRIGGER eager AFTER INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION eager();
SELECT version FROM es_append('Eager-1', 'Eager');
\echo :SQLSTATE
DROP TRIGGER eager ON eventstore.event_log;
SELECT es_stream_version('Eager-1'), (SELECT count(*) FROM eventstore.projections);
-- After the error it can be created as ever.
SELECT es_create_projection('eager', 'keep', mode => 'inline', types => '{Eager}');
SELECT es_drop_projection('eager');


-- ---- code that drops its projection ----

-- As it becomes inline,
CREATE TABLE doomed (n bigint);
CREATE FUNCTION doom(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE IF EXISTS doomed CASCADE; END $$;
SELECT version FROM es_append('Doom-1', 'Doomed');
SELECT es_create_projection('short_lived', 'doom', mode => 'inline', types => '{Doomed}', reset => 'TRUNCATE doomed');
SELECT count(*) FROM eventstore.projections;

-- with an append,
CREATE TABLE doomed (n bigint);
SELECT es_create_projection('short_lived', 'doom', mode => 'inline', types => '{Doomed}', reset => 'TRUNCATE doomed', start_after => es_head());
SELECT version FROM es_append('Doom-1', 'Doomed');
SELECT count(*) FROM eventstore.projections;

-- in a batch,
CREATE TABLE doomed (n bigint);
SELECT es_create_projection('short_lived', 'doom', types => '{Doomed}', reset => 'TRUNCATE doomed');
CALL await('NOT EXISTS (SELECT FROM eventstore.projections)');
SELECT count(*) FROM pg_class WHERE relname = 'doomed';
-- It is gone when the worker's lock on it is.
DROP TABLE IF EXISTS doomed;

-- and as dead letters are tried again.
CREATE TABLE doomed (n bigint);
CREATE TABLE tried (n int);
CREATE OR REPLACE FUNCTION doom(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tried) THEN
        RAISE EXCEPTION 'not yet';
    END IF;
    DROP TABLE IF EXISTS doomed CASCADE;
END $$;
SELECT es_create_projection('short_lived', 'doom', types => '{Doomed}', on_error => 'skip', max_retries => 0, reset => 'TRUNCATE doomed');
SELECT es_wait_for_projection('short_lived', timeout => '60 s');
SELECT reason, error FROM eventstore.dead_letters;
INSERT INTO tried VALUES (1);
SELECT es_retry_dead_letters('short_lived') > 0;
SELECT count(*) FROM eventstore.projections;
SELECT count(*) FROM eventstore.dead_letter;


-- ---- keys that are too long ----

-- The event is found, and on_error says what becomes of it.
SELECT es_create_projection('keys_stop', reducer => 'add_up', partition_by => 'data.key', types => '{Keyed}', max_retries => 0);
SELECT es_create_projection('keys_skip', reducer => 'add_up', partition_by => 'data.key', types => '{Keyed}', max_retries => 0, on_error => 'skip');
SELECT count(*) FROM es_append_batch('{Key-1, Key-2, Key-3}', '{Keyed, Keyed, Keyed}',
    ARRAY['{"key": "a"}', jsonb_build_object('key', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)), '{"key": "a"}']::jsonb[]);
CALL await_state('keys_stop', 'stopped');
SELECT es_wait_for_projection('keys_skip', timeout => '60 s');
SELECT p.name, p.state, p.last_sqlstate, e.stream FROM eventstore.projections p LEFT JOIN eventstore.events e ON e.position = p.failed_position ORDER BY p.name;
SELECT projection, stream, reason, sqlstate FROM eventstore.dead_letters;
SELECT es_projection_state('keys_stop', 'a'), es_projection_state('keys_skip', 'a');
SELECT es_drop_projection('keys_stop'), es_drop_projection('keys_skip');


-- ---- JSON null ----

-- A state that is JSON null is one, however the events are cut into batches.
CREATE FUNCTION nulls(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT CASE WHEN event.type = 'Void' THEN 'null'::jsonb ELSE to_jsonb('was ' || coalesce(state::text, 'nothing')) END $$;
SELECT es_create_projection('nulls', reducer => 'nulls', mode => 'inline', types => '{Void, Next}');
SELECT version FROM es_append('Null-1', 'Void');
SELECT es_projection_state('nulls', 'Null-1');
SELECT version FROM es_append('Null-1', 'Next');
SELECT es_projection_state('nulls', 'Null-1');
SELECT count(*) FROM es_append_batch('{Null-2, Null-2}', '{Void, Next}', '{"{}", "{}"}');
SELECT es_projection_state('nulls', 'Null-2');
SELECT es_rebuild_projection('nulls');
SELECT es_wait_for_projection('nulls', timeout => '60 s');
SELECT es_projection_state('nulls', 'Null-1'), es_aggregate('Null-1', 'nulls');
SELECT es_drop_projection('nulls');


-- ---- names ----

-- What an alteration says means what it would have meant at the creation.
CREATE SCHEMA app;
CREATE TABLE app.model (n bigint);
SET search_path = app, public;
SELECT es_create_projection('elsewhere', query => 'INSERT INTO model SELECT version FROM es_batch', types => '{Elsewhere}');
SET search_path = public;
SELECT es_alter_projection('elsewhere', reset => 'TRUNCATE model');
DROP TABLE app.model;
\echo :SQLSTATE
SELECT version FROM es_append('Else-1', 'Elsewhere');
SELECT es_wait_for_projection('elsewhere', timeout => '60 s');
SELECT es_rebuild_projection('elsewhere');
SELECT es_wait_for_projection('elsewhere', timeout => '60 s');
SELECT n FROM app.model;
RESET search_path;

-- DROP ... CASCADE of a part of what a projection needs.
CREATE TABLE base (n bigint, x int);
CREATE VIEW on_base AS SELECT n, x FROM base;
CREATE TABLE plain (n bigint);
SELECT es_create_projection('on_view', query => 'INSERT INTO plain SELECT b.version FROM es_batch b LEFT JOIN on_base v ON v.n = b.version');
-- (At rest: a query that runs locks the view first, ALTER TABLE the table.)
SELECT es_wait_for_projection('on_view', timeout => '60 s');
ALTER TABLE base DROP COLUMN x;
\echo :SQLSTATE
ALTER TABLE base DROP COLUMN x CASCADE;
SELECT name FROM eventstore.projections;

-- An event trigger that runs a statement of its own comes in between.
CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE $a$ SET LOCAL work_mem = '8MB' $a$; END $$;
CREATE EVENT TRIGGER meddle ON ddl_command_start EXECUTE FUNCTION meddle();
DROP TABLE app.model;
\echo :SQLSTATE
DROP TABLE app.model CASCADE;
DROP EVENT TRIGGER meddle;
SELECT count(*) FROM eventstore.projections;


-- ---- dead letters of a parked stream ----

-- Those that are asked for are not applied before those of their stream that precede.
CREATE TABLE closed (n int);
INSERT INTO closed VALUES (1);
CREATE TABLE delivered (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION deliver(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM closed) THEN
        RAISE EXCEPTION 'closed';
    END IF;
    INSERT INTO delivered (what) VALUES (event.stream || '@' || event.version);
END $$;
SELECT es_create_projection('parking', 'deliver', types => '{Parcel}', on_error => 'park', max_retries => 0);
SELECT count(*) FROM es_append_batch('{Way-1, Way-2, Way-1, Way-1}', '{Parcel, Parcel, Parcel, Parcel}', '{"{}", "{}", "{}", "{}"}');
SELECT es_wait_for_projection('parking', timeout => '60 s');
SELECT stream, reason FROM eventstore.dead_letters ORDER BY position;
DELETE FROM closed;
SELECT es_retry_dead_letters('parking', (SELECT ARRAY[max(position)] FROM eventstore.dead_letters));
SELECT es_retry_dead_letters('parking', (SELECT array_agg(position ORDER BY position DESC) FROM (SELECT position FROM eventstore.dead_letters ORDER BY position DESC LIMIT 2) l));
SELECT stream, reason FROM eventstore.dead_letters ORDER BY position;
SELECT what FROM delivered ORDER BY n;
SELECT es_retry_dead_letters('parking');
SELECT what FROM delivered ORDER BY n;
SELECT count(*) FROM eventstore.dead_letters;
SELECT es_drop_projection('parking');


-- ---- roles ----

-- The owner of a projection is not dropped.
SET ROLE keeper;
SELECT es_create_projection('owned', 'keep', types => '{Owned}');
RESET ROLE;
\set VERBOSITY terse
DROP ROLE keeper;
\echo :SQLSTATE
\set VERBOSITY default
SELECT name, owner FROM eventstore.projections;
DROP OWNED BY keeper CASCADE;
SELECT name, owner FROM eventstore.projections;
DROP ROLE keeper;

-- Who may watch the server may watch its projections.
GRANT pg_monitor TO watcher;
GRANT USAGE ON SCHEMA eventstore TO watcher;
SELECT es_create_projection('watched', 'keep', types => '{Watched}');
SET SESSION AUTHORIZATION watcher;
SELECT name FROM eventstore.projections;
SELECT count(*) FROM eventstore.dead_letters;
SELECT es_pause_projection('watched');
\echo :SQLSTATE
RESET SESSION AUTHORIZATION;


-- ---- snapshots ----

-- What must see all that there is does not run with a snapshot of long ago.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_rebuild_projection('watched');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT es_retry_dead_letters('watched');
\echo :SQLSTATE
ROLLBACK;

DROP OWNED BY clerk, watcher;
DROP ROLE clerk, watcher;
