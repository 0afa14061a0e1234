-- Read models that the background worker keeps.

CREATE EXTENSION eventstore;

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all


-- ---- a handler ----

-- A function that gets each event.  That of the log's beginning first: what is there
-- when the projection is made is applied, too.
SELECT version FROM es_append_events('Order-1', '[{"type": "Placed", "data": {"customer": "ada"}}, {"type": "Paid"}]');
CREATE TABLE customer_order (stream text PRIMARY KEY, customer text, state text, changes int);
CREATE FUNCTION on_order(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    CASE event.type
        WHEN 'Placed' THEN
            INSERT INTO customer_order VALUES (event.stream, event.data ->> 'customer', 'placed', 1);
        ELSE
            UPDATE customer_order SET state = lower(event.type), changes = changes + 1 WHERE stream = event.stream;
    END CASE;
END $$;
SELECT es_create_projection('orders', 'on_order', reset => 'TRUNCATE customer_order');
SELECT name, mode, form, state, code, batch_size, on_error, max_retries FROM eventstore.projections;

-- Read your writes: wait until the projection has applied all that was committed.
SELECT es_wait_for_projection('orders', timeout => '60 s');
SELECT * FROM customer_order;
SELECT version FROM es_append('Order-1', 'Shipped');
SELECT version FROM es_append('Order-2', 'Placed', '{"customer": "grace"}');
SELECT es_wait_for_projection('orders', timeout => '60 s');
SELECT * FROM customer_order ORDER BY stream;

-- Or up to a position, as an append has returned it.
SELECT position FROM es_append('Order-2', 'Paid') \gset
SELECT es_wait_for_projection('orders', :position, '60 s');
SELECT * FROM customer_order WHERE stream = 'Order-2';

-- What is rolled back is never seen.
BEGIN;
SELECT version FROM es_append('Order-2', 'Lost');
ROLLBACK;
SELECT version FROM es_append('Order-2', 'Found');
SELECT es_wait_for_projection('orders', timeout => '60 s');
SELECT * FROM customer_order WHERE stream = 'Order-2';

-- It waits for the head.  One cannot wait for what one has not committed.
BEGIN;
SELECT position FROM es_append('Order-2', 'Closed') \gset
SELECT es_wait_for_projection('orders', :position, '60 s');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT version FROM es_append('Order-2', 'Closed');
SELECT es_wait_for_projection('orders', timeout => '60 s');
\echo :SQLSTATE
ROLLBACK;
SELECT es_wait_for_projection('orders', 1000000, '60 s');
\echo :SQLSTATE


-- ---- run it now ----

-- In one's own transaction: the events up to the head.  How many it has applied.
CREATE FUNCTION pass(event es_event) RETURNS void LANGUAGE sql AS '';
BEGIN;
SELECT es_create_projection('own', 'pass');
SELECT es_run_projection('own');
SELECT es_run_projection('own');
ROLLBACK;

-- Up to a position.
BEGIN;
SELECT es_create_projection('own', 'pass', batch_size => 1);
SELECT checkpoint FROM eventstore.projections WHERE name = 'own';
SELECT es_run_projection('own', (SELECT position FROM es_read_stream('Order-1', 2, 1)));
SELECT es_run_projection('own', (SELECT position FROM es_read_stream('Order-1', 1, 1))) AS "not backwards";
SELECT es_run_projection('own');
SELECT checkpoint = es_head() AS "at the head" FROM eventstore.projections WHERE name = 'own';
ROLLBACK;

-- Its effects are committed with its checkpoint, or not at all.
CREATE TABLE applied (position bigint PRIMARY KEY);
CREATE FUNCTION apply(event es_event) RETURNS void LANGUAGE sql AS 'INSERT INTO applied VALUES (event.position)';
SELECT es_create_projection('applied', 'apply', reset => 'TRUNCATE applied');
SELECT es_wait_for_projection('applied', timeout => '60 s');
SELECT es_pause_projection('applied');
SELECT version FROM es_append('Order-3', 'Placed', '{"customer": "alan"}');
BEGIN;
SELECT es_resume_projection('applied');
SELECT es_run_projection('applied');
SELECT count(*) AS missing FROM es_read_all() LEFT JOIN applied a USING (position) WHERE a.position IS NULL;
ROLLBACK;
SELECT count(*) AS missing FROM es_read_all() LEFT JOIN applied a USING (position) WHERE a.position IS NULL;
SELECT es_resume_projection('applied');
SELECT es_wait_for_projection('applied', timeout => '60 s');
SELECT count(*) AS missing FROM es_read_all() LEFT JOIN applied a USING (position) WHERE a.position IS NULL;

-- Not what one has not committed oneself: that is beyond the head.
BEGIN;
SELECT version FROM es_append('Order-3', 'Paid');
SELECT es_run_projection('applied');
COMMIT;
SELECT es_wait_for_projection('applied', timeout => '60 s');
SELECT count(*) AS missing FROM es_read_all() LEFT JOIN applied a USING (position) WHERE a.position IS NULL;

-- An error leaves everything as it was.
CREATE FUNCTION refuse(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$ BEGIN IF event.type = 'Paid' THEN RAISE EXCEPTION 'no money' USING ERRCODE = 'UE001'; END IF; INSERT INTO applied VALUES (-event.position); END $$;
BEGIN;
SELECT es_create_projection('own', 'refuse');
SAVEPOINT s;
\set VERBOSITY terse
SELECT es_run_projection('own');
\set VERBOSITY default
\echo :SQLSTATE
ROLLBACK TO s;
SELECT checkpoint, failures FROM eventstore.projections WHERE name = 'own';
SELECT count(*) FROM applied WHERE position < 0;
ROLLBACK;


-- ---- a query ----

-- One statement for a batch of events.
CREATE TABLE per_day (stream text, type text, n bigint, batches bigint, PRIMARY KEY (stream, type));
SELECT count(*)
FROM es_append_batch(ARRAY(SELECT 'Reading-' || i % 10 FROM generate_series(1, 2500) i), array_fill('Measured'::text, '{2500}'), ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 2500) i));
SELECT es_create_projection('days', categories => '{Reading}', batch_size => 600, reset => 'TRUNCATE per_day', query => $$
    INSERT INTO per_day
    SELECT stream, type, count(*), 1 FROM es_batch GROUP BY stream, type
    ON CONFLICT (stream, type) DO UPDATE SET n = per_day.n + excluded.n, batches = per_day.batches + 1 $$);
SELECT es_wait_for_projection('days', timeout => '60 s');
SELECT sum(n), count(*), min(batches) >= 5 AS "several batches" FROM per_day;

-- They come in order, so that a query may say which is the last one.
CREATE TABLE last_value (stream text PRIMARY KEY, value int, version bigint);
SELECT es_create_projection('last values', categories => '{Reading}', batch_size => 37, query => $$
    INSERT INTO last_value
    SELECT DISTINCT ON (stream) stream, data::int, version FROM es_batch ORDER BY stream, position DESC
    ON CONFLICT (stream) DO UPDATE SET value = excluded.value, version = excluded.version $$);
SELECT es_wait_for_projection('last values', timeout => '60 s');
SELECT * FROM last_value ORDER BY stream;


-- ---- where it begins, and what it takes ----

CREATE TABLE seen (projection text, stream text, version bigint, type text, n int GENERATED ALWAYS AS IDENTITY);
BEGIN;
SELECT es_create_projection('late', query => $$ INSERT INTO seen SELECT 'late', stream, version, type FROM es_batch ORDER BY position $$,
    categories => '{Order}', start_after => (SELECT position FROM es_read_stream('Order-2', 1, 1)));
SELECT es_create_projection('paid', query => $$ INSERT INTO seen SELECT 'paid', stream, version, type FROM es_batch ORDER BY position $$, types => '{Paid}');
SELECT es_create_projection('both', query => $$ INSERT INTO seen SELECT 'both', stream, version, type FROM es_batch ORDER BY position $$,
    types => '{Placed, Measured, Unheard}', categories => '{Order, Nothing}');
SELECT es_create_projection('none', query => $$ INSERT INTO seen SELECT 'none', stream, version, type FROM es_batch ORDER BY position $$, types => '{}');
SELECT es_run_projection('late') AS late, es_run_projection('paid') AS paid, es_run_projection('both') AS "both", es_run_projection('none') AS none;
SELECT projection, stream, version, type FROM seen ORDER BY n;

-- Its checkpoint moves to the head also past events that are not for it.
SELECT name, checkpoint = es_head() AS "at the head", lag, lag_seconds FROM eventstore.projections WHERE name IN ('late', 'paid', 'both', 'none') ORDER BY name;
ROLLBACK;
SELECT es_create_projection('none', 'pass', types => '{Unheard}');
SELECT version > 0 AS appended FROM es_append('Order-3', 'Shipped');
SELECT es_wait_for_projection('none', es_head(), timeout => '60 s');
SELECT checkpoint = es_head() AS "at the head", lag, lag_seconds FROM eventstore.projections WHERE name = 'none';
SELECT es_drop_projection('none');


-- ---- many events, many projections ----

-- Each event once and in order, however the batches fall.
CREATE TABLE sequence (projection text PRIMARY KEY, position bigint, n bigint, disorder bigint);
CREATE FUNCTION follow_1(event es_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sequence AS s VALUES ('1', event.position, 1, 0)
    ON CONFLICT (projection) DO UPDATE SET position = excluded.position, n = s.n + 1, disorder = s.disorder + (excluded.position <= s.position)::int $$;
CREATE FUNCTION follow_2(event es_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sequence AS s VALUES ('2', event.position, 1, 0)
    ON CONFLICT (projection) DO UPDATE SET position = excluded.position, n = s.n + 1, disorder = s.disorder + (excluded.position <= s.position)::int $$;
CREATE FUNCTION follow_3(event es_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sequence AS s VALUES ('3', event.position, 1, 0)
    ON CONFLICT (projection) DO UPDATE SET position = excluded.position, n = s.n + 1, disorder = s.disorder + (excluded.position <= s.position)::int $$;
SELECT es_create_projection('1', 'follow_1', batch_size => 1), es_create_projection('2', 'follow_2', batch_size => 250),
    es_create_projection('3', 'follow_3', batch_size => 1000000, reset => 'DELETE FROM sequence WHERE projection = ''3''');
SELECT count(*) FROM (SELECT es_append('Many-' || i % 7, 'Happened') FROM generate_series(1, 500) i) a;
SELECT name, es_wait_for_projection(name, timeout => '60 s') FROM unnest('{1, 2, 3}'::text[]) name;
SELECT projection, n - (SELECT count(*) FROM es_read_all(max_count => NULL)) AS lost_or_doubled, disorder, position = es_head() AS last FROM sequence ORDER BY projection;
SELECT es_drop_projection('1'), es_drop_projection('2');


-- ---- pause, resume, rebuild, drop ----

SELECT es_pause_projection('3');
SELECT n FROM sequence WHERE projection = '3' \gset
SELECT version FROM es_append('Many-0', 'Happened') \gset
SELECT state, lag > 0 AS behind, lag_seconds > 0 AS seconds FROM eventstore.projections WHERE name = '3';
SELECT es_wait_for_projection('3', timeout => '0.2 s');
SELECT n - :n AS applied FROM sequence WHERE projection = '3';
SELECT es_run_projection('3');
\echo :SQLSTATE
SELECT es_resume_projection('3');
SELECT es_wait_for_projection('3', timeout => '60 s');
SELECT n - :n AS applied FROM sequence WHERE projection = '3';

-- A rebuild empties the read model and applies all events anew.  Without a word on
-- how to empty it, there is none.
UPDATE sequence SET n = 17 WHERE projection = '3';
SELECT es_rebuild_projection('3');
SELECT es_wait_for_projection('3', timeout => '60 s');
SELECT projection, n - (SELECT count(*) FROM es_read_all(max_count => NULL)) AS lost_or_doubled, disorder, position = es_head() AS last FROM sequence WHERE projection = '3';
SELECT es_rebuild_projection('last values');
\echo :SQLSTATE
SELECT es_alter_projection('last values', reset => '');
SELECT es_rebuild_projection('last values');
SELECT es_wait_for_projection('last values', timeout => '60 s');

-- A paused one is running after its rebuild.
SELECT es_pause_projection('3');
SELECT es_rebuild_projection('3');
SELECT es_wait_for_projection('3', timeout => '60 s');
SELECT projection, n - (SELECT count(*) FROM es_read_all(max_count => NULL)) AS lost_or_doubled, disorder, position = es_head() AS last FROM sequence WHERE projection = '3';

-- In the caller's transaction, with what one appends there.
BEGIN;
SELECT version - :version AS appended FROM es_append('Many-0', 'Happened');
SELECT es_rebuild_projection('3');
SELECT count(*) FROM sequence WHERE projection = '3';
COMMIT;
SELECT es_wait_for_projection('3', timeout => '60 s');
SELECT projection, n - (SELECT count(*) FROM es_read_all(max_count => NULL)) AS lost_or_doubled, disorder, position = es_head() AS last FROM sequence WHERE projection = '3';
BEGIN;
SELECT es_rebuild_projection('3');
ROLLBACK;
SELECT projection, n - (SELECT count(*) FROM es_read_all(max_count => NULL)) AS lost_or_doubled FROM sequence WHERE projection = '3';

-- The rebuild of one that began late begins there again.
TRUNCATE seen RESTART IDENTITY;
SELECT es_create_projection('late', query => $$ INSERT INTO seen SELECT 'late', stream, version, type FROM es_batch ORDER BY position $$,
    categories => '{Order}', start_after => (SELECT position FROM es_read_stream('Order-2', 1, 1)), reset => 'TRUNCATE seen RESTART IDENTITY');
SELECT es_wait_for_projection('late', timeout => '60 s');
CREATE TABLE seen_before AS TABLE seen;
SELECT es_rebuild_projection('late');
SELECT es_wait_for_projection('late', timeout => '60 s');
SELECT count(*) > 0 AS some FROM seen;
SELECT count(*) AS lost FROM (TABLE seen_before EXCEPT TABLE seen) l;
SELECT count(*) AS added FROM (TABLE seen EXCEPT TABLE seen_before) a;

-- A reset that fails, fails the call.
SELECT es_alter_projection('late', reset => 'SELECT 1 / count(*) FROM seen WHERE false');
\set VERBOSITY terse
SELECT es_rebuild_projection('late');
\set VERBOSITY default
\echo :SQLSTATE
SELECT state, lag FROM eventstore.projections WHERE name = 'late';
SELECT es_drop_projection('late');

-- Dropped: nobody applies it any more; what it has written, stays.
SELECT es_drop_projection('3');
SELECT es_drop_projection('3');
\echo :SQLSTATE
SELECT es_wait_for_projection('3');
\echo :SQLSTATE
SELECT count(*) FROM sequence WHERE projection = '3';

-- Its name can be used again.  One of the same name is 42710, or a NOTICE.
SELECT es_create_projection('3', 'pass');
SELECT es_create_projection('3', 'pass');
\echo :SQLSTATE
SELECT es_create_projection('3', 'follow_3', if_not_exists => true);
SELECT es_create_projection('4', 'pass', if_not_exists => true);
SELECT name, code FROM eventstore.projections WHERE name IN ('3', '4') ORDER BY name;
-- Names are compared byte by byte.
SELECT es_create_projection('É', 'pass'), es_create_projection(U&'E\0301', 'pass'), es_create_projection('é', 'pass'), es_create_projection(' 3', 'pass');
SELECT count(es_drop_projection(name)) FROM eventstore.projections WHERE code = 'public.pass';

-- Changes take effect with the next batch.
SELECT es_alter_projection('orders', batch_size => 1, on_error => 'skip', max_retries => 0, reset => 'DELETE FROM customer_order');
SELECT batch_size, on_error, max_retries FROM eventstore.projections WHERE name = 'orders';
SELECT es_alter_projection('orders');
SELECT es_alter_projection('orders', max_retries => 3);
SELECT batch_size, on_error, max_retries FROM eventstore.projections WHERE name = 'orders';


-- ---- functions ----

-- Named with their schema, or found on the search_path; that is settled when the
-- projection is made.
CREATE SCHEMA first;
CREATE SCHEMA "Second";
CREATE FUNCTION first.pass(event es_event) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION "Second"."Pass It"(event es_event) RETURNS es_event LANGUAGE sql AS 'SELECT event';
CREATE FUNCTION "Second".pass(event jsonb) RETURNS void LANGUAGE sql AS '';
SELECT es_create_projection('found', 'pass');
SET search_path = "Second", first, public;
SELECT es_create_projection('found first', 'pass');
SELECT es_create_projection('found quoted', '"Pass It"');
SELECT es_create_projection('named', 'public.pass');
RESET search_path;
SELECT es_create_projection('named quoted', '"Second"."Pass It"');
SELECT es_create_projection('folded', 'FIRST.Pass');
SELECT name, code FROM eventstore.projections WHERE code ~* 'pass' ORDER BY name;
SELECT name, es_wait_for_projection(name, timeout => '60 s') FROM eventstore.projections WHERE code ~* 'pass' ORDER BY name;

-- With settings of its own.
CREATE TABLE settings (path text, n text, who name);
SET search_path = first, public;
CREATE FUNCTION first.configured(event es_event) RETURNS void
    LANGUAGE sql
    SET extra_float_digits = -3
    AS $$ INSERT INTO settings VALUES (current_setting('search_path'), current_setting('extra_float_digits'), current_user) $$;
SELECT es_create_projection('configured', 'configured', types => '{Configured}');
RESET search_path;
SELECT version FROM es_append('Other-1', 'Configured');
SELECT es_wait_for_projection('configured', timeout => '60 s');
TABLE settings;

-- Replacing the function is taken up by the next batch.
CREATE OR REPLACE FUNCTION first.configured(event es_event) RETURNS void
    LANGUAGE sql
    AS $$ INSERT INTO settings VALUES ('replaced', NULL, current_user) $$;
SELECT version FROM es_append('Other-1', 'Configured');
SELECT es_wait_for_projection('configured', timeout => '60 s');
SELECT path FROM settings;

SELECT count(es_drop_projection(name)) FROM eventstore.projections;
DROP SCHEMA first, "Second" CASCADE;


-- ---- events that come of events ----

-- The cause goes along, through as many projections as there are.
CREATE FUNCTION bill(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_append('Bill-' || split_part(event.stream, '-', 2), 'Billed', expected_version => 0) $$;
CREATE FUNCTION post(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_append('Post-' || split_part(event.stream, '-', 2), 'Posted', metadata => '{"own": true}') $$;
SELECT es_create_projection('bills', 'bill', types => '{Ordered}'), es_create_projection('posts', 'post', types => '{Billed}');
SELECT count(*)
FROM es_append_batch('{Purchase-1, Purchase-2}', '{Ordered, Ordered}', '{1, 2}', metadata => '{"{\"correlation_id\": \"c-1\"}", NULL}');
SELECT es_wait_for_projection('bills', timeout => '60 s');
SELECT es_wait_for_projection('posts', timeout => '60 s');
SELECT e.stream, e.type, e.metadata - 'causation_id' AS metadata, c.stream AS cause
FROM eventstore.events e
LEFT JOIN eventstore.events c ON c.event_id::text = e.metadata ->> 'causation_id'
WHERE e.stream ~ '^(Purchase|Bill|Post)-' ORDER BY e.type, e.stream;
SELECT type FROM es_read_correlation('c-1');

-- A rebuild does not append them again if it says what it expects; that is for the
-- handler to say.
SELECT es_alter_projection('bills', on_error => 'skip', max_retries => 0, reset => '');
SELECT es_rebuild_projection('bills');
SELECT es_wait_for_projection('bills', timeout => '60 s');
SELECT count(*) FROM eventstore.events WHERE type = 'Billed';
SELECT projection, stream, sqlstate FROM eventstore.dead_letters ORDER BY stream;
SELECT count(es_drop_projection(name)) FROM eventstore.projections;


-- ---- workers ----

-- Without workers nothing moves, and es_run_projection() does it.
ALTER SYSTEM SET eventstore.max_workers = 0;
SELECT pg_reload_conf();
SELECT count(pg_terminate_backend(pid)) > 0 AS ended FROM pg_stat_activity WHERE backend_type = 'eventstore worker';
CALL await($$ NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'eventstore worker') $$);
SELECT version FROM es_append('Worker-1', 'Happened');
SELECT es_create_projection('followed', 'apply', categories => '{Worker}');
SELECT es_wait_for_projection('followed', timeout => '0.1 s');
SELECT es_run_projection('followed');
SELECT es_wait_for_projection('followed', timeout => '0 s');
ALTER SYSTEM RESET eventstore.max_workers;
SELECT pg_reload_conf();
SELECT version FROM es_append('Worker-1', 'Happened');
SELECT es_wait_for_projection('followed', timeout => '60 s');
SELECT count(*) FROM applied JOIN es_read_stream('Worker-1') USING (position);
