-- What becomes of events that cannot be applied.

CREATE EXTENSION eventstore;

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all

-- A read model: which events were applied, in which order.  Events that are bad
-- cannot be, until they are mended.
CREATE TABLE applied (n int GENERATED ALWAYS AS IDENTITY, projection text, what text);
CREATE TABLE mended (what text PRIMARY KEY);
CREATE FUNCTION apply(projection text, event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO applied (projection, what) VALUES (projection, event.stream || '@' || event.version);
    IF event.data ? 'bad' AND NOT EXISTS (SELECT FROM mended WHERE what = event.stream || '@' || event.version) THEN
        RAISE EXCEPTION 'bad: %', event.data ->> 'bad' USING ERRCODE = 'UE001', DETAIL = 'Very bad.', HINT = 'Mend it.';
    END IF;
END $$;
CREATE FUNCTION apply_stop(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM apply('stop', event); END $$;
CREATE FUNCTION apply_skip(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM apply('skip', event); END $$;
CREATE FUNCTION apply_park(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM apply('park', event); END $$;
CREATE FUNCTION was_applied(of text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(what, ' ' ORDER BY n) FROM applied WHERE projection = of $$;
CREATE VIEW letters AS
SELECT l.projection, l.stream || '@' || e.version AS event, l.reason, l.attempts, l.error, l.sqlstate, l.failed_at IS NOT NULL AS "at"
FROM eventstore.dead_letters l
LEFT JOIN eventstore.events e USING (position)
ORDER BY l.projection, l.position;
CREATE VIEW failing AS
SELECT p.name, p.state, p.failures, p.last_error, p.last_sqlstate, e.stream || '@' || e.version AS failed, p.dead_letters
FROM eventstore.projections p
LEFT JOIN eventstore.events e ON e.position = p.failed_position
ORDER BY p.name;


-- ---- stop ----

-- By default a projection stops at an event that it cannot apply, after some more
-- attempts.  What precedes the event is applied; the other projections go on.
SELECT es_create_projection('stop', 'apply_stop', max_retries => 1, categories => '{S}');
SELECT es_create_projection('other', query => $$ INSERT INTO applied (projection, what) SELECT 'other', stream || '@' || version FROM es_batch ORDER BY position $$, categories => '{S}');
SELECT count(*) FROM es_append_batch('{S-1, S-2, S-1, S-2, S-1}', '{T, T, T, T, T}', '{1, 2, "{\"bad\": \"egg\"}", 4, 5}');
CALL await_state('stop', 'stopped');
SELECT * FROM failing WHERE name = 'stop';
SELECT was_applied('stop');
SELECT es_wait_for_projection('other', timeout => '60 s');
SELECT was_applied('other');

-- Appends do not notice.
SELECT version FROM es_append('S-1', 'T');

-- Who waits for it, or wants to run it, is told.
SELECT es_wait_for_projection('stop', timeout => '60 s');
\echo :SQLSTATE
SELECT es_run_projection('stop');
\echo :SQLSTATE

-- Resumed with the cause still there, it stops again,
SELECT es_resume_projection('stop');
CALL await_state('stop', 'stopped');
SELECT * FROM failing WHERE name = 'stop';
SELECT was_applied('stop');
-- and without it, it goes on.
INSERT INTO mended VALUES ('S-1@2');
SELECT es_resume_projection('stop');
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT was_applied('stop');
SELECT * FROM failing WHERE name = 'stop';

-- Or past the event, which becomes a dead letter.
SELECT count(*) FROM es_append_batch('{S-1, S-1, S-1}', '{T, T, T}', '{1, "{\"bad\": \"weather\"}", 3}');
CALL await_state('stop', 'stopped');
-- The whole error is shown while it stands, and kept when somebody skips the event.
SELECT last_error, last_sqlstate, last_detail, last_hint, last_context LIKE '%PL/pgSQL function apply(text,es_event) line%' AS context FROM eventstore.projections WHERE name = 'stop';
SELECT es_resume_projection('stop', skip_failed => true);
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT last_error, last_sqlstate, last_detail, last_hint, last_context FROM eventstore.projections WHERE name = 'stop';
SELECT error, sqlstate, detail, hint, context LIKE '%PL/pgSQL function apply(text,es_event) line%' AS context, skipped_by = current_user AS "by us" FROM eventstore.dead_letters;
SELECT was_applied('stop');
SELECT * FROM letters;
SELECT * FROM failing WHERE name = 'stop';
SELECT es_resume_projection('stop', skip_failed => true);
\echo :SQLSTATE

-- A stopped one can be paused, and rebuilt.
SELECT version FROM es_append('S-1', 'T', '{"bad": "luck"}') \gset
CALL await_state('stop', 'stopped');
SELECT es_pause_projection('stop');
SELECT name, state FROM failing WHERE name = 'stop';
INSERT INTO mended SELECT 'S-1@' || v FROM generate_series(1, 10) v ON CONFLICT DO NOTHING;
SELECT es_alter_projection('stop', reset => $$ DELETE FROM applied WHERE projection = 'stop' $$);
SELECT es_rebuild_projection('stop');
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT was_applied('stop');
SELECT * FROM letters;

-- While it tries again, it says so; the pauses grow.
TRUNCATE mended;
SELECT es_alter_projection('stop', max_retries => 1000);
SELECT version FROM es_append('S-3', 'T', '{"bad": "timing"}');
CALL await_state('stop', 'retrying');
SELECT es_wait_for_projection('stop', timeout => '0.1 s');
CALL await($$ (SELECT failures >= 3 AND next_try_at - failed_at BETWEEN make_interval(secs => 0.09 * 2 ^ (failures - 1)) AND make_interval(secs => 0.5 + 0.1 * 2 ^ (failures - 1))
    FROM eventstore.projections WHERE name = 'stop') $$);
SELECT state, last_error, last_sqlstate, failed_at <= clock_timestamp() AS "at" FROM eventstore.projections WHERE name = 'stop';
-- Mended, it goes on by itself,
INSERT INTO mended VALUES ('S-3@1');
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT * FROM failing WHERE name = 'stop';
-- or at once, if it is told to.
SELECT version FROM es_append('S-3', 'T', '{"bad": "again"}');
CALL await($$ (SELECT failures >= 4 FROM eventstore.projections WHERE name = 'stop') $$);
INSERT INTO mended VALUES ('S-3@2');
SELECT es_run_projection('stop');
SELECT * FROM failing WHERE name = 'stop';
SELECT es_drop_projection('stop'), es_drop_projection('other');


-- ---- skip ----

SELECT es_create_projection('skip', 'apply_skip', on_error => 'skip', max_retries => 0, categories => '{K}', reset => $$ DELETE FROM applied WHERE projection = 'skip' $$);
SELECT count(*) FROM es_append_batch('{K-1, K-2, K-1, K-2, K-1, K-3}', '{T, T, T, T, T, T}', '{1, "{\"bad\": 2}", "{\"bad\": 3}", 4, 5, "{\"bad\": 6}"}');
SELECT es_wait_for_projection('skip', timeout => '60 s');
SELECT was_applied('skip');
SELECT * FROM letters;
SELECT * FROM failing;

SELECT DISTINCT detail, hint, context LIKE '%PL/pgSQL function apply(text,es_event) line%' AS context, skipped_by FROM eventstore.dead_letters WHERE projection = 'skip';

-- They can be tried again: those that are named, or all.
SELECT es_retry_dead_letters('skip');
SELECT * FROM letters;
INSERT INTO mended VALUES ('K-1@2'), ('K-3@1');
SELECT es_retry_dead_letters('skip', '{}'), es_retry_dead_letters('skip', '{0, 1000000}');
SELECT es_retry_dead_letters('skip', (SELECT array_agg(position) FROM es_read_all(categories => '{K}') WHERE stream <> 'K-3'));
SELECT * FROM letters;
SELECT es_retry_dead_letters('skip');
SELECT was_applied('skip');
SELECT * FROM letters;

-- In one's own transaction.
INSERT INTO mended VALUES ('K-2@1');
BEGIN;
SELECT es_retry_dead_letters('skip');
SELECT was_applied('skip');
SELECT * FROM letters;
ROLLBACK;
SELECT was_applied('skip');
SELECT * FROM letters;
DELETE FROM mended;

-- A rebuild begins without dead letters, and makes its own.
SELECT es_rebuild_projection('skip');
SELECT es_wait_for_projection('skip', timeout => '60 s');
SELECT was_applied('skip');
SELECT * FROM letters;

-- They go with the projection.
SELECT es_drop_projection('skip');
SELECT count(*) FROM eventstore.dead_letter;

-- With retries before.
CREATE SEQUENCE attempt;
CREATE FUNCTION try_twice(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$ BEGIN IF nextval('attempt') <= 2 THEN RAISE EXCEPTION 'not yet'; END IF; INSERT INTO applied (projection, what) VALUES ('twice', event.stream || '@' || event.version); END $$;
SELECT es_create_projection('twice', 'try_twice', on_error => 'skip', max_retries => 2, categories => '{K}', types => '{Twice}');
SELECT version FROM es_append('K-9', 'Twice');
SELECT es_wait_for_projection('twice', timeout => '60 s');
SELECT was_applied('twice'), last_value AS attempts, (SELECT count(*) FROM letters) AS letters FROM attempt;
SELECT setval('attempt', 1, false);
SELECT es_alter_projection('twice', max_retries => 1);
SELECT version FROM es_append('K-9', 'Twice');
SELECT es_wait_for_projection('twice', timeout => '60 s');
SELECT last_value AS attempts FROM attempt;
SELECT * FROM letters;
SELECT es_drop_projection('twice');


-- ---- park ----

-- That event, and all later ones of its stream: they wait behind it.
SELECT es_create_projection('park', 'apply_park', on_error => 'park', max_retries => 0, categories => '{P}', reset => $$ DELETE FROM applied WHERE projection = 'park' $$);
SELECT count(*) FROM es_append_batch('{P-1, P-2, P-1, P-2, P-1, P-3, P-2}', '{T, T, T, T, T, T, T}', '{1, 2, "{\"bad\": 3}", 4, "{\"bad\": 5}", 6, "{\"bad\": 7}"}');
SELECT es_wait_for_projection('park', timeout => '60 s');
SELECT version FROM es_append('P-1', 'T');
SELECT version FROM es_append('P-3', 'T');
SELECT es_wait_for_projection('park', timeout => '60 s');
SELECT was_applied('park');
SELECT * FROM letters;
SELECT * FROM failing;

-- Tried again, the events of a stream are applied in order, up to one that fails.
SELECT es_retry_dead_letters('park');
SELECT * FROM letters;
INSERT INTO mended VALUES ('P-1@2'), ('P-2@3');
SELECT es_retry_dead_letters('park');
SELECT was_applied('park');
SELECT * FROM letters;
-- One that waits cannot overtake, even if it is named.
SELECT es_retry_dead_letters('park', (SELECT array_agg(position) FROM es_read_stream('P-1', 4)));
SELECT was_applied('park');
SELECT version FROM es_append('P-1', 'T');
SELECT version FROM es_append('P-2', 'T');
SELECT es_wait_for_projection('park', timeout => '60 s');
SELECT was_applied('park');
SELECT * FROM letters;
INSERT INTO mended VALUES ('P-1@3');
SELECT es_retry_dead_letters('park');
SELECT was_applied('park');
SELECT * FROM letters;
-- The stream goes on.
SELECT version FROM es_append('P-1', 'T');
SELECT es_wait_for_projection('park', timeout => '60 s');
SELECT was_applied('park');

-- Nor does one overtake that is let pass by hand.
SELECT es_alter_projection('park', on_error => 'stop');
SELECT version FROM es_append('P-4', 'T', '{"bad": 1}');
SELECT version FROM es_append('P-4', 'T');
CALL await_state('park', 'stopped');
SELECT es_alter_projection('park', on_error => 'park');
SELECT es_resume_projection('park', skip_failed => true);
SELECT es_wait_for_projection('park', timeout => '60 s');
SELECT * FROM letters;
-- What waits, waits on when on_error becomes another.
SELECT es_alter_projection('park', on_error => 'skip');
SELECT version FROM es_append('P-4', 'T');
SELECT es_wait_for_projection('park', timeout => '60 s');
SELECT * FROM letters;
INSERT INTO mended VALUES ('P-4@1');
SELECT es_retry_dead_letters('park');
SELECT was_applied('park');
SELECT es_drop_projection('park');


-- ---- in a query ----

-- It has no event of its own to blame: the batch is narrowed down to the one.  What
-- precedes it is applied, once.
CREATE TABLE quotient (stream text, version bigint, n numeric);
SELECT es_create_projection('query', categories => '{Q}', max_retries => 0, query => $$
    INSERT INTO quotient SELECT stream, version, 100 / (data ->> 'by')::int FROM es_batch WHERE NOT EXISTS (SELECT FROM mended WHERE what = stream || '@' || version) $$);
SELECT count(*) FROM es_append_batch(ARRAY(SELECT 'Q-' || i % 3 FROM generate_series(1, 300) i), array_fill('T'::text, '{300}'),
    ARRAY(SELECT jsonb_build_object('by', CASE WHEN i IN (100, 101, 250) THEN 0 ELSE 1 END) FROM generate_series(1, 300) i));
CALL await_state('query', 'stopped');
SELECT * FROM failing;
SELECT count(*), count(DISTINCT (stream, version)) FROM quotient;
SELECT es_alter_projection('query', on_error => 'skip');
SELECT es_resume_projection('query');
SELECT es_wait_for_projection('query', timeout => '60 s');
SELECT * FROM letters;
SELECT count(*), count(DISTINCT (stream, version)) FROM quotient;
INSERT INTO mended SELECT event FROM letters;
SELECT es_retry_dead_letters('query');
SELECT es_drop_projection('query');

-- The same for a reducer.
CREATE FUNCTION divide(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 100 / (event.data ->> 'by')::int) $$;
SELECT es_create_projection('reducer', reducer => 'divide', categories => '{Q}', on_error => 'skip', max_retries => 0);
SELECT es_wait_for_projection('reducer', timeout => '60 s');
SELECT * FROM letters;
SELECT sum((es_projection_state('reducer', key) ->> 'n')::int) FROM unnest('{Q-0, Q-1, Q-2}'::text[]) key;
SELECT es_drop_projection('reducer');

-- Many that fail.
TRUNCATE quotient;
SELECT es_create_projection('odd', categories => '{Q}', on_error => 'skip', max_retries => 0, query => $$
    INSERT INTO quotient SELECT stream, version, 1 / (version % 2) FROM es_batch $$);
SELECT es_wait_for_projection('odd', timeout => '60 s');
SELECT count(*), (SELECT count(*) FROM letters) AS letters FROM quotient;
SELECT es_drop_projection('odd');


-- ---- errors that are not the event's ----

-- A deadlock, a lock that was not to be had, no memory, no room on the disk: those
-- are tried again for as long as it takes, whatever max_retries.
CREATE FUNCTION try_three_times(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF nextval('attempt') <= 2 THEN
        RAISE EXCEPTION USING ERRCODE = event.data ->> 'sqlstate', MESSAGE = 'not yet';
    END IF;
    INSERT INTO applied (projection, what) VALUES ('outside', event.data ->> 'sqlstate');
    PERFORM setval('attempt', 1, false);
END $$;
SELECT setval('attempt', 1, false);
SELECT es_create_projection('outside', 'try_three_times', on_error => 'skip', max_retries => 0, categories => '{O}');
DO $$
DECLARE
    s text;
BEGIN
    FOREACH s IN ARRAY '{40001, 40P01, 55P03, 53100, 53200}'::text[] LOOP
        PERFORM es_append('O-1', 'T', jsonb_build_object('sqlstate', s));
        COMMIT;
        CALL await('es_wait_for_projection(''outside'')');
    END LOOP;
END $$;
SELECT was_applied('outside');
SELECT * FROM letters;
SELECT es_drop_projection('outside');

-- Code that is broken: no event would fare better, so none is skipped.
CREATE TABLE inner_table (what text);
CREATE FUNCTION use_inner(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO inner_table VALUES (event.stream || '@' || event.version); END $$;
SELECT es_create_projection('code', 'use_inner', on_error => 'skip', max_retries => 1, categories => '{C}');
SELECT version FROM es_append('C-1', 'T');
SELECT es_wait_for_projection('code', timeout => '60 s');
ALTER TABLE inner_table RENAME TO hidden_table;
SELECT version FROM es_append('C-1', 'T');
SELECT version FROM es_append('C-1', 'T');
CALL await_state('code', 'stopped');
SELECT name, state, failures, last_error, last_sqlstate, dead_letters FROM failing;
ALTER TABLE hidden_table RENAME TO inner_table;
SELECT es_resume_projection('code');
SELECT es_wait_for_projection('code', timeout => '60 s');
TABLE inner_table;
SELECT es_drop_projection('code');

-- Of a query, too.
SELECT es_create_projection('code', on_error => 'skip', max_retries => 0, categories => '{C}', query => $$ INSERT INTO inner_table SELECT stream || '@' || version || ', by query' FROM es_batch ORDER BY position $$);
SELECT es_wait_for_projection('code', timeout => '60 s');
ALTER TABLE inner_table ALTER what TYPE int USING 1;
SELECT version FROM es_append('C-1', 'T');
CALL await_state('code', 'stopped');
SELECT name, state, failures, last_error, last_sqlstate, dead_letters FROM failing;
ALTER TABLE inner_table ALTER what TYPE text;
SELECT es_resume_projection('code');
SELECT es_wait_for_projection('code', timeout => '60 s');
SELECT what FROM inner_table WHERE what LIKE '%query' ORDER BY 1 DESC LIMIT 1;
SELECT es_drop_projection('code');

-- A constraint that is not met is the event's fault.
CREATE TABLE picky (n int NOT NULL UNIQUE CHECK (n < 3));
SELECT es_create_projection('picky', on_error => 'skip', max_retries => 0, types => '{Counted}', query => $$ INSERT INTO picky SELECT data::int FROM es_batch ORDER BY position $$);
SELECT count(*) FROM (SELECT es_append('C-2', 'Counted', n::jsonb) FROM unnest('{1, 1, 2, 3, "true", 0, 2}'::text[]) n) a;
SELECT es_wait_for_projection('picky', timeout => '60 s');
SELECT event, sqlstate, error FROM letters;
TABLE picky;
SELECT es_drop_projection('picky');

-- An error that the code catches itself, is none.
CREATE FUNCTION catch(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    BEGIN
        INSERT INTO applied (projection, what) VALUES ('catch', 'undone');
        BEGIN
            INSERT INTO applied (projection, what) VALUES ('catch', 'undone as well');
            PERFORM 1 / 0;
        EXCEPTION
            WHEN no_data_found THEN
                INSERT INTO applied (projection, what) VALUES ('catch', 'never');
        END;
    EXCEPTION
        WHEN division_by_zero THEN
            INSERT INTO applied (projection, what) VALUES ('catch', event.version || ' caught');
    END;
    IF event.data ? 'bad' THEN
        BEGIN
            PERFORM 1 / 0;
        EXCEPTION
            WHEN division_by_zero THEN
                RAISE EXCEPTION 'not caught' USING ERRCODE = 'UE002';
        END;
    END IF;
END $$;
SELECT es_create_projection('catch', 'catch', on_error => 'skip', max_retries => 0, categories => '{E}');
SELECT count(*) FROM (SELECT es_append('E-1', 'T', d::jsonb) FROM unnest('{1, 2, "{\"bad\": 3}", 4}'::text[]) d) a;
SELECT es_wait_for_projection('catch', timeout => '60 s');
SELECT was_applied('catch');
SELECT * FROM letters;
SELECT es_drop_projection('catch');

-- Texts of any length.
CREATE FUNCTION shout(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', repeat('é%s🚀', 300000); END $$;
SELECT es_create_projection('shout', 'shout', on_error => 'skip', max_retries => 0, categories => '{E}');
SELECT es_wait_for_projection('shout', timeout => '60 s');
SELECT count(*), bool_and(error LIKE 'é%s🚀é%s🚀%') AS texts FROM letters;
SELECT es_drop_projection('shout');


-- ---- time ----

-- eventstore.projection_timeout is what a batch may take in the worker.
-- Here with new workers, which surely know of it.
ALTER SYSTEM SET eventstore.projection_timeout = '500 ms';
SELECT pg_reload_conf();
\c -
SHOW eventstore.projection_timeout;
SELECT count(pg_terminate_backend(pid)) > 0 AS ended FROM pg_stat_activity WHERE backend_type = 'eventstore worker';
CALL await($$ NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'eventstore worker') $$);
CREATE FUNCTION dawdle(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    CASE event.type
        WHEN 'Loop' THEN LOOP END LOOP;
        WHEN 'Sleep' THEN PERFORM pg_sleep(600);
        WHEN 'Lock' THEN PERFORM pg_advisory_xact_lock(1);
        WHEN 'Catch' THEN
            BEGIN
                PERFORM pg_sleep(600);
            EXCEPTION
                WHEN OTHERS THEN NULL;
            END;
        ELSE NULL;
    END CASE;
    INSERT INTO applied (projection, what) VALUES ('dawdle', event.type);
END $$;
SELECT pg_advisory_lock(1);
SELECT es_create_projection('dawdle', 'dawdle', on_error => 'skip', max_retries => 0, categories => '{D}');
SELECT version FROM es_append_events('D-1', '[{"type": "A"}, {"type": "Loop"}, {"type": "B"}, {"type": "Sleep"}, {"type": "C"}, {"type": "Catch"}, {"type": "D"}, {"type": "Lock"}, {"type": "E"}]');
SELECT es_wait_for_projection('dawdle', timeout => '60 s');
SELECT was_applied('dawdle');
SELECT * FROM letters;

SELECT pg_advisory_unlock(1);
SELECT es_drop_projection('dawdle');

-- Many events that take time each are no error: there will be fewer to a batch.
CREATE FUNCTION take_time(event es_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); INSERT INTO applied (projection, what) VALUES ('time', event.version::text); END $$;
SELECT version FROM es_append_events('D-3', (SELECT jsonb_agg('{"type": "T"}'::jsonb) FROM generate_series(1, 40)));
SELECT es_create_projection('time', 'take_time', on_error => 'skip', max_retries => 0, types => '{T}', categories => '{D}');
SELECT es_wait_for_projection('time', timeout => '60 s');
SELECT count(*), count(DISTINCT what), (SELECT count(*) FROM letters) AS letters FROM applied WHERE projection = 'time';
SELECT es_drop_projection('time');
CREATE TABLE timed (version bigint);
SELECT es_create_projection('time', query => 'INSERT INTO timed SELECT version FROM es_batch, LATERAL pg_sleep(0.03 + 0 * version)', on_error => 'skip', max_retries => 0, types => '{T}', categories => '{D}');
SELECT es_wait_for_projection('time', timeout => '60 s');
SELECT count(*), count(DISTINCT version), (SELECT count(*) FROM letters) AS letters FROM timed;
SELECT es_drop_projection('time');

-- A session's own run has the session's limits.
BEGIN;
SELECT es_create_projection('own', 'take_time', types => '{T}', categories => '{D}');
SELECT es_run_projection('own');
SAVEPOINT s;
SELECT es_drop_projection('own');
SELECT es_create_projection('own', 'dawdle', types => '{Sleep}', categories => '{D}');
SET LOCAL statement_timeout = '100 ms';
\set VERBOSITY terse
SELECT es_run_projection('own');
\set VERBOSITY default
\echo :SQLSTATE
ROLLBACK;
ALTER SYSTEM RESET eventstore.projection_timeout;
SELECT pg_reload_conf();


-- ---- inline ----

-- While an inline projection catches up, on_error counts.
SELECT es_create_projection('inline', 'apply_skip', mode => 'inline', on_error => 'skip', max_retries => 0, categories => '{I}', reset => $$ DELETE FROM applied WHERE projection = 'skip' $$);
INSERT INTO mended SELECT 'I-1@' || v FROM generate_series(1, 3) v;
SELECT count(*) FROM (SELECT es_append('I-1', 'T', jsonb_build_object('bad', i)) FROM generate_series(1, 3) i) a;
SELECT was_applied('skip');
DELETE FROM mended WHERE what = 'I-1@2';
SELECT es_rebuild_projection('inline');
SELECT es_wait_for_projection('inline', timeout => '60 s');
CALL await_state('inline', 'running');
SELECT was_applied('skip');
SELECT * FROM letters;
-- Then it is the appender's again.
\set VERBOSITY terse
SELECT version FROM es_append('I-1', 'T', '{"bad": 4}');
\set VERBOSITY default
\echo :SQLSTATE
SELECT version FROM es_append('I-1', 'T', '4');
INSERT INTO mended VALUES ('I-1@2');
SELECT es_retry_dead_letters('inline');
SELECT was_applied('skip');
SELECT * FROM failing;
-- One that stops on the way is not inline, until it is resumed.
DELETE FROM mended WHERE what = 'I-1@3';
SELECT es_alter_projection('inline', on_error => 'stop');
SELECT es_rebuild_projection('inline');
CALL await_state('inline', 'stopped');
SELECT version FROM es_append('I-1', 'T', '5');
SELECT was_applied('skip');
INSERT INTO mended VALUES ('I-1@3');
SELECT es_resume_projection('inline');
SELECT was_applied('skip');
SELECT * FROM failing;

-- What fails when it is created, is the creator's error.
DELETE FROM mended;
\set VERBOSITY terse
SELECT es_create_projection('inline too', 'apply_park', mode => 'inline', on_error => 'skip', max_retries => 0, categories => '{I}');
\set VERBOSITY default
\echo :SQLSTATE
SELECT name FROM eventstore.projections;
