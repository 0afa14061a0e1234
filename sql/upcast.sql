-- Events of an old shape are shown in the newest.

CREATE EXTENSION eventstore;

-- The error of a statement, with what its CONTEXT says of events and projections.
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text; context text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN 'ok' || coalesce(nullif(': ' || answer, ': '), '');
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
        RETURN concat_ws(E'\n', SQLSTATE || ': ' || left(SQLERRM, 150),
            (SELECT string_agg(line, E'\n') FROM regexp_split_to_table(context, '\n') line WHERE line ~ '^(upcasting|projection)'));
END $$;
\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all


-- ---- a chain ----

-- Three shapes of one fact, the last under another name.
SELECT count(*)
FROM es_append_batch(array_fill('Order-1'::text, '{6}'), '{OrderCreated, OrderCreated, OrderCreated, OrderPlaced, OrderPlaced, OrderPaid}',
    '{"{\"customer\": 1}", "{\"customer_id\": 2}", "{\"buyer\": 3}", "{\"by\": 4}", "{\"by\": 5, \"in\": \"EUR\"}", "{}"}', schema_versions => '{1, 2, 9, 1, 2, 1}',
    metadata => '{"{\"correlation_id\": \"c\", \"user\": \"ada\"}", NULL, NULL, NULL, NULL, NULL}');
CREATE FUNCTION created_2(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
    AS $$ SELECT data - 'customer' || jsonb_build_object('customer_id', data -> 'customer') $$;
CREATE FUNCTION placed_1(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
    AS $$ SELECT data - 'customer_id' || jsonb_build_object('by', data -> 'customer_id', 'user', metadata -> 'user') $$;
CREATE FUNCTION placed_2(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE plpgsql
    AS $$ BEGIN RETURN data || '{"in": "USD"}'; END $$;
CREATE VIEW orders AS SELECT version, type, schema_version, data FROM es_read_stream('Order-1');
SELECT es_register_upcaster('OrderCreated', 1, 'created_2');
TABLE orders;
SELECT es_register_upcaster('OrderCreated', 2, 'placed_1', 'OrderPlaced', 1);
TABLE orders;
SELECT es_register_upcaster('OrderPlaced', 1, 'placed_2');
TABLE orders;
-- Every reader is shown the same.
CREATE FUNCTION collect(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || jsonb_build_array(event.version || event.type || event.schema_version || event.data::text) $$;
CREATE FUNCTION ways() RETURNS TABLE (way text, events bigint, sum text)
    LANGUAGE sql
    AS $$
    SELECT 'stream', count(*), md5(string_agg(version || type || schema_version || data::text, ' ' ORDER BY version)) FROM es_read_stream('Order-1')
    UNION ALL SELECT 'backwards', count(*), md5(string_agg(version || type || schema_version || data::text, ' ' ORDER BY version)) FROM es_read_stream('Order-1', backwards => true)
    UNION ALL SELECT 'all', count(*), md5(string_agg(version || type || schema_version || data::text, ' ' ORDER BY version)) FROM es_read_all() WHERE stream = 'Order-1'
    UNION ALL SELECT 'category', count(*), md5(string_agg(version || type || schema_version || data::text, ' ' ORDER BY version)) FROM es_read_category('Order')
    UNION ALL SELECT 'load', count(*), md5(string_agg(concat(e ->> 'version', e ->> 'type', e ->> 'schema_version', e -> 'data'), ' ' ORDER BY n)) FROM es_load('Order-1') l, jsonb_array_elements(l.events) WITH ORDINALITY j (e, n)
    UNION ALL SELECT 'aggregate', count(*), md5(string_agg(e, ' ' ORDER BY n)) FROM jsonb_array_elements_text(es_aggregate('Order-1', 'collect', '[]')) WITH ORDINALITY j (e, n) $$;
SELECT count(DISTINCT sum) AS "different answers", min(events), max(events) FROM ways();
SELECT version, type, data FROM es_read_correlation('c');
-- What is stored, stays; the view of it shows that.
SELECT version, type, schema_version, data FROM eventstore.events ORDER BY position;
SELECT * FROM eventstore.event_types ORDER BY type, schema_version;

-- A type is asked for by the name that is stored, or by that which is shown.
CREATE FUNCTION of_types(types text[]) RETURNS TABLE (stream text, backwards text, "all" text, category text, nowhere text)
    LANGUAGE sql
    AS $$
SELECT (SELECT string_agg(version::text, ' ') FROM es_read_stream('Order-1', types => types)),
    (SELECT string_agg(version::text, ' ') FROM es_read_stream('Order-1', types => types, backwards => true)),
    (SELECT string_agg(version::text, ' ') FROM es_read_all(types => types)),
    (SELECT string_agg(version::text, ' ') FROM es_read_all(types => types, categories => '{Order}')),
    (SELECT string_agg(version::text, ' ') FROM es_read_all(types => types, categories => '{Other}')) $$;
SELECT t AS types, o.* FROM unnest(ARRAY['{OrderCreated}', '{OrderPlaced}', '{OrderPlaced, OrderCreated}', '{OrderPaid}', '{Order}', '{}']) t, LATERAL of_types(t::text[]) o;
SELECT version FROM es_read_stream('Order-1', 1, 2, types => '{OrderPlaced}');
SELECT version FROM es_read_stream('Order-1', NULL, 2, true, '{OrderPlaced}');

-- A renamed type that is renamed again.
SELECT count(*) FROM es_append_batch('{Name-1, Name-1, Name-1}', '{A, B, C}', '{1, 2, 3}');
CREATE FUNCTION same(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data $$;
SELECT es_register_upcaster('A', 1, 'same', 'B', 1), es_register_upcaster('B', 1, 'same', 'C', 1);
SELECT version, type FROM es_read_stream('Name-1');
SELECT t, (SELECT string_agg(version::text, ' ') FROM es_read_stream('Name-1', types => ARRAY[t])), (SELECT string_agg(version::text, ' ') FROM es_read_all(types => ARRAY[t])) FROM unnest('{A, B, C}'::text[]) t;
-- Each name on the way of an event takes it, wherever events are filtered by type: the stored one,
-- the one in between, the one that is shown.
CREATE FUNCTION taken(name text, OUT query text, OUT category text, OUT fetched text, OUT projected text, OUT condition text)
    LANGUAGE plpgsql
    AS $$
BEGIN
    SELECT string_agg(version::text, ' ') INTO query FROM es_query(jsonb_build_array(jsonb_build_object('types', ARRAY[name])));
    SELECT string_agg(version::text, ' ') INTO category FROM es_read_all(types => ARRAY[name], categories => '{Name}');
    PERFORM es_create_subscription('names', types => ARRAY[name]);
    SELECT string_agg(version::text, ' ') INTO fetched FROM es_fetch('names', 'me');
    PERFORM es_drop_subscription('names');
    PERFORM es_create_projection('names', query => 'SELECT version FROM es_batch', types => ARRAY[name]);
    projected := es_run_projection('names');
    PERFORM es_drop_projection('names');
    PERFORM es_append_events('Other-1', '[]', condition => jsonb_build_object('query', jsonb_build_array(jsonb_build_object('types', ARRAY[name]))));
    condition := 'accepted';
EXCEPTION
    WHEN SQLSTATE 'SE004' THEN
        condition := 'refused';
END $$;
SELECT name, t.* FROM unnest('{A, B, C, D}'::text[]) name, LATERAL taken(name) t;
-- Back to an older schema version, if that is not shown as the newer one.
SELECT es_register_upcaster('C', 7, 'same', 'C', 1);
SELECT version FROM es_append('Name-1', 'C', schema_version => 7);
SELECT version, type, schema_version FROM es_read_stream('Name-1', 4);


-- ---- one's own, until the commit ----

BEGIN;
SELECT es_register_upcaster('OrderPaid', 1, 'same', 'OrderSettled');
SELECT version, type, schema_version FROM es_read_stream('Order-1', 6);
SAVEPOINT s;
SELECT es_register_upcaster('OrderPaid', 1, 'same', 'OrderClosed', 5);
SELECT version, type, schema_version FROM es_read_stream('Order-1', 6);
ROLLBACK TO s;
SELECT version, type, schema_version FROM es_read_stream('Order-1', types => '{OrderSettled}');
ROLLBACK;
SELECT version, type, schema_version FROM es_read_stream('Order-1', 6);
SELECT count(*) FROM es_read_stream('Order-1', types => '{OrderSettled}');
-- Replaced.
SELECT es_register_upcaster('OrderPlaced', 1, 'same', 'OrderPlaced', 3);
TABLE orders;
SELECT es_register_upcaster('OrderPlaced', 1, 'placed_2');


-- ---- functions that fail ----

CREATE TABLE mended (n int);
CREATE FUNCTION fragile(data jsonb, metadata jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF data ? 'bad' AND NOT EXISTS (SELECT FROM mended WHERE n = (data ->> 'bad')::int) THEN
        RAISE EXCEPTION 'bad %', data -> 'bad' USING ERRCODE = 'UE001';
    END IF;
    RETURN data || jsonb_build_object('key', data -> 'old');
END $$;
SELECT version FROM es_append_events('Bad-1', '[{"type": "Old", "data": {"old": 1}}, {"type": "Old", "data": {"bad": 2}}]');
SELECT version FROM es_append('Bad-1', 'Old', '{"old": 3}');
SELECT es_register_upcaster('Old', 1, 'fragile', 'New', 1);
CREATE FUNCTION told(statement text) RETURNS text LANGUAGE sql AS $$ SELECT replace(outcome(statement), (SELECT min(position) + 1 FROM eventstore.events WHERE stream = 'Bad-1')::text, 'BAD') $$;
SELECT told($$ SELECT count(data) FROM es_read_stream('Bad-1') $$);
SELECT told($$ SELECT count(data) FROM es_read_stream('Bad-1', backwards => true) $$);
SELECT told($$ SELECT count(data) FROM es_read_category('Bad') $$);
SELECT told($$ SELECT count(data) FROM es_read_all(types => '{New}') $$);
SELECT told($$ SELECT es_load('Bad-1') $$);
SELECT told($$ SELECT es_aggregate('Bad-1', 'collect', '[]') $$);
-- Only who meets it.
SELECT told($$ SELECT count(data) FROM es_read_stream('Bad-1', max_count => 1) $$), told($$ SELECT count(data) FROM es_read_stream('Bad-1', 3) $$);
SELECT told($$ SELECT es_aggregate('Bad-1', 'collect', '[]', up_to_version => 1) $$);
BEGIN;
SELECT es_truncate_stream('Bad-1', 3);
SELECT version FROM es_read_stream('Bad-1');
ROLLBACK;
-- Null is no event; a function that does not want to hear of null gives null.
CREATE FUNCTION nothing(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION strict(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT data || metadata $$;
SELECT count(*) FROM es_append_batch('{Nil-1, Strict-1, Strict-2}', '{Nil, Strict, Strict}', '{"{}", "{}", "{}"}', metadata => '{NULL, "{\"a\": 1}", NULL}');
SELECT es_register_upcaster('Nil', 1, 'nothing'), es_register_upcaster('Strict', 1, 'strict');
SELECT stream, regexp_replace(outcome(format('SELECT data FROM es_read_stream(%L)', stream)), 'position \d+', 'position N') FROM unnest('{Nil-1, Strict-1, Strict-2}'::text[]) stream;
SELECT es_register_upcaster('Nil', 1, 'same'), es_register_upcaster('Strict', 1, 'same');

-- A function is not dropped without its upcaster.
CREATE FUNCTION short(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"short"'::jsonb $$;
SELECT es_register_upcaster('Nil', 1, 'short');
SELECT data FROM es_read_stream('Nil-1');
DROP FUNCTION short;
\echo :SQLSTATE
SELECT data FROM es_read_stream('Nil-1');
CREATE OR REPLACE FUNCTION short(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"shorter"'::jsonb $$;
SELECT data FROM es_read_stream('Nil-1');
ALTER FUNCTION short(jsonb, jsonb) RENAME TO long;
SELECT regexp_replace(outcome($$ SELECT data FROM es_read_stream('Nil-1') $$), 'position \d+', 'position N');
ALTER FUNCTION long(jsonb, jsonb) RENAME TO short;
SELECT data FROM es_read_stream('Nil-1');
SELECT es_register_upcaster('Nil', 1, 'same');
DROP FUNCTION short;
SELECT data FROM es_read_stream('Nil-1');


-- ---- functions that read and write ----

-- One that reads what it is asked to upcast comes to an end.
CREATE FUNCTION again(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(count(data)) FROM es_read_stream('Again-1') $$;
SELECT version FROM es_append('Again-1', 'Again');
SELECT es_register_upcaster('Again', 1, 'again');
SELECT left(outcome($$ SELECT data FROM es_read_stream('Again-1') $$), 5);
SELECT es_register_upcaster('Again', 1, 'same');
-- One may read another stream, where the reader may.
CREATE FUNCTION count_others(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || jsonb_build_object('orders', (SELECT count(*) FROM es_read_stream('Order-1'))) $$;
SELECT version FROM es_append('Do-1', 'Count');
SELECT es_register_upcaster('Count', 1, 'count_others');
SELECT version, data FROM es_read_stream('Do-1');


-- ---- projections ----

-- Each form and mode is given the newest shape; types are asked for by either name.
CREATE TABLE seen (projection text, what text, n int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION says(event es_event) RETURNS text LANGUAGE sql AS $$ SELECT concat(event.stream, '@', event.version, ' ', event.type, event.schema_version, ' ', event.data -> 'key') $$;
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (projection, what) SELECT 'handler', says(event) $$;
CREATE FUNCTION handle_inline(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (projection, what) SELECT 'handler inline', says(event) $$;
CREATE FUNCTION fold(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT coalesce(state, '{}') || jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1, 'last', says(event)) $$;
SELECT count(*) FROM es_append_batch(array_fill('Some-1'::text, '{3}'), array_fill('Old'::text, '{3}'), '{"{\"old\": 1}", "{\"old\": 2}", "{\"old\": 1}"}');
INSERT INTO mended VALUES (2);
SELECT es_create_projection('handler', 'handle', types => '{New}', categories => '{Some}');
SELECT es_create_projection('query', query => $$ INSERT INTO seen (projection, what) SELECT 'query', concat(stream, '@', version, ' ', type, schema_version, ' ', data -> 'key') FROM es_batch ORDER BY position $$, types => '{Old}', categories => '{Some}');
SELECT es_create_projection('reducer', reducer => 'fold', partition_by => 'data.key', types => '{New}', categories => '{Some}');
SELECT es_create_projection('by type', reducer => 'fold', partition_by => 'type', categories => '{Some}');
SELECT es_create_projection('handler inline', 'handle_inline', mode => 'inline', types => '{New}', categories => '{Some}');
SELECT es_create_projection('query inline', query => $$ INSERT INTO seen (projection, what) SELECT 'query inline', concat(stream, '@', version, ' ', type, schema_version, ' ', data -> 'key') FROM es_batch ORDER BY position $$, mode => 'inline', types => '{Old}', categories => '{Some}');
SELECT es_create_projection('reducer inline', reducer => 'fold', partition_by => 'data.key', mode => 'inline', types => '{New}', categories => '{Some}');
SELECT es_create_projection('by type inline', reducer => 'fold', partition_by => 'type', mode => 'inline', categories => '{Some}');
CALL await($$ (SELECT bool_and(state = 'running') FROM eventstore.projections) $$);
SELECT version FROM es_append('Some-2', 'New', '{"key": 1}');
SELECT version FROM es_append('Some-2', 'Old', '{"old": 2}');
SELECT version FROM es_append_events('Some-1', '[{"type": "Old", "data": {"old": 1}}, {"type": "Other", "data": {"old": 1}}, {"type": "Old", "data": {"old": 3}}]');
SELECT name, es_wait_for_projection(name, timeout => '60 s') FROM eventstore.projections WHERE mode = 'async' ORDER BY name;
SELECT projection, string_agg(what, ', ' ORDER BY n) FROM seen GROUP BY projection ORDER BY projection;
SELECT name, es_projection_state(name, '1') AS "1", es_projection_state(name, '2') AS "2", es_projection_state(name, '3') AS "3" FROM unnest('{reducer, reducer inline}'::text[]) name;
SELECT name, es_projection_state(name, 'New') AS "New", es_projection_state(name, 'Old') AS "Old", es_projection_state(name, 'Other') AS "Other" FROM unnest('{by type, by type inline}'::text[]) name;

-- The append fails with its inline projection, and names event, upcaster and projection.
SELECT version FROM es_append('Some-3', 'Old', '{"old": 1}');
SELECT regexp_replace(outcome($$ SELECT es_append_events('Some-3', '[{"type": "Old", "data": {"old": 1}}, {"type": "Old", "data": {"old": 1, "bad": 7}}]') $$), 'position \d+', 'position N', 'g');
SELECT es_stream_version('Some-3');
SELECT count(es_drop_projection(name)) FROM eventstore.projections;

-- A background projection finds the one that is bad, in the middle of its batch.
TRUNCATE seen, mended;
CREATE FUNCTION handle_stop(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (projection, what) SELECT 'stop', says(event) $$;
SELECT count(*)
FROM es_append_batch((SELECT array_agg('Park-' || i % 3) FROM generate_series(1, 30) i), (SELECT array_agg(text 'Old') FROM generate_series(1, 30) i),
    (SELECT array_agg(jsonb_build_object('old', i) || CASE WHEN i IN (15, 20) THEN jsonb_build_object('bad', i) ELSE '{}' END) FROM generate_series(1, 30) i));
SELECT min(position) - 1 AS base FROM eventstore.events WHERE stream ~ '^Park' \gset
SELECT es_create_projection('stop', 'handle_stop', types => '{New}', categories => '{Park}', max_retries => 0);
SELECT es_create_projection('skip', query => $$ INSERT INTO seen (projection, what) SELECT 'skip', concat(stream, '@', version, ' ', data -> 'key') FROM es_batch ORDER BY position $$, types => '{Old}', categories => '{Park}', max_retries => 0, on_error => 'skip');
SELECT es_create_projection('park', reducer => 'fold', partition_by => 'all', types => '{New}', categories => '{Park}', max_retries => 0, on_error => 'park');
CALL await($$ (SELECT state = 'stopped' FROM eventstore.projections WHERE name = 'stop') $$);
SELECT es_wait_for_projection('skip', timeout => '60 s'), es_wait_for_projection('park', timeout => '60 s');
SELECT name, state, failed_position - :base AS failed, last_error, last_sqlstate, dead_letters FROM eventstore.projections ORDER BY name;
SELECT projection, stream, position - :base AS event, reason, error, sqlstate FROM eventstore.dead_letters ORDER BY projection, position;
SELECT projection, count(*), count(DISTINCT what) FROM seen GROUP BY projection ORDER BY projection;
SELECT es_projection_state('park', 'all');
-- Mended, the rest is applied.
INSERT INTO mended VALUES (15), (20);
SELECT es_resume_projection('stop');
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT es_retry_dead_letters('skip'), es_retry_dead_letters('park');
SELECT projection, count(*), count(DISTINCT what) FROM seen GROUP BY projection ORDER BY projection;
SELECT string_agg(split_part(what, ' ', 3), ' ' ORDER BY n) FROM seen WHERE projection = 'stop';
SELECT es_projection_state('park', 'all') -> 'n' AS parked;
SELECT count(*) FROM eventstore.dead_letters;
-- A new shape is for events to come and for a rebuild.
SELECT es_alter_projection('stop', reset => $$ DELETE FROM seen WHERE projection = 'stop' $$);
CREATE FUNCTION newest(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"key": "newest"}'::jsonb $$;
SELECT es_register_upcaster('New', 1, 'newest');
SELECT version FROM es_append('Park-1', 'Old', '{"old": 31}');
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT count(*), count(*) FILTER (WHERE what LIKE '%newest%') FROM seen WHERE projection = 'stop';
SELECT es_rebuild_projection('stop');
SELECT es_wait_for_projection('stop', timeout => '60 s');
SELECT count(*), count(*) FILTER (WHERE what LIKE '%New2 "newest"') FROM seen WHERE projection = 'stop';
SELECT count(es_drop_projection(name)) FROM eventstore.projections;


-- ---- rights ----

-- It runs as the role that registered it, whoever reads, and with that role's search_path.
CREATE ROLE regress_upcaster;
CREATE ROLE regress_other;
CREATE ROLE regress_reader;
GRANT CREATE ON SCHEMA public TO regress_upcaster, regress_other;
SET ROLE regress_upcaster;
SELECT outcome($$ SELECT es_register_upcaster('Mine', 1, 'same') $$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION es_register_upcaster TO regress_upcaster, regress_other;
GRANT EXECUTE ON FUNCTION es_read_stream, es_load TO regress_reader;
SELECT version FROM es_append('Mine-1', 'Mine', '{"secret": 1}');
SET ROLE regress_upcaster;
SET search_path = public;
CREATE FUNCTION mine(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('user', current_user, 'path', current_setting('search_path')) $$;
SELECT es_register_upcaster('Mine', 1, 'mine');
RESET ROLE;
RESET search_path;
SELECT data FROM es_read_stream('Mine-1');
SELECT events -> 0 -> 'data' AS data FROM es_load('Mine-1');
SET ROLE regress_reader;
SELECT data FROM es_read_stream('Mine-1');
RESET ROLE;
SELECT current_user = session_user AS "oneself again", current_setting('search_path');

-- What it could do to a superuser who reads.
CREATE TABLE secret (n int);
CREATE FUNCTION hostile(code text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    SET LOCAL ROLE regress_upcaster;
    EXECUTE format('CREATE OR REPLACE FUNCTION mine(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE plpgsql AS %L', 'BEGIN ' || code || '; RETURN data; END');
    RESET ROLE;
    -- servers of different versions refuse in different words
    answer := regexp_replace(split_part(outcome($q$ SELECT data FROM es_read_stream('Mine-1') $q$), E'\n', 1), '\y(must be|permission denied)\y.*', 'denied');
    RETURN concat_ws(' ', answer, CASE WHEN current_user <> session_user THEN 'ANOTHER USER' END,
        CASE WHEN EXISTS (SELECT FROM secret) THEN 'WRITTEN' END, CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_upcaster') THEN 'SUPERUSER' END,
        CASE WHEN current_setting('work_mem') = '123kB' OR current_setting('eventstore.allow_drop') = 'on' OR current_setting('search_path') ~ 'evil' THEN 'SETTING' END);
END $$;
SELECT code, hostile(code) FROM unnest(ARRAY[
    $$INSERT INTO public.secret VALUES (1)$$,
    $$RESET ROLE$$,
    $$SET LOCAL ROLE NONE$$,
    $$PERFORM set_config('role', 'none', false)$$,
    $$SET SESSION AUTHORIZATION DEFAULT$$,
    $$ALTER ROLE regress_upcaster SUPERUSER$$,
    $$PERFORM set_config('search_path', 'evil', false)$$,
    $$PERFORM set_config('work_mem', '123kB', false)$$,
    $$SET eventstore.allow_drop = on$$,
    $$CREATE TEMPORARY TABLE t (n int)$$,
    $$LISTEN eventstore$$,
    $$COMMIT$$,
    $$PERFORM count(*) FROM public.es_read_stream('Order-1')$$,
    $$PERFORM public.es_append('Mine-1', 'Mine')$$,
    $$PERFORM public.es_delete_stream('Mine-1')$$,
    $$PERFORM pg_terminate_backend(pg_backend_pid())$$]) code;

-- An upcaster is its owner's, and superusers'.
SET ROLE regress_other;
CREATE FUNCTION theirs(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"theirs"'::jsonb $$;
SELECT outcome($$ SELECT es_register_upcaster('Mine', 1, 'theirs') $$);
SELECT outcome($$ SELECT es_register_upcaster('Mine', 2, 'theirs') $$);
RESET ROLE;
CREATE FUNCTION closed(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data $$;
REVOKE EXECUTE ON FUNCTION closed FROM public;
SET ROLE regress_upcaster;
SELECT outcome($$ SELECT es_register_upcaster('Mine', 1, 'closed') $$);
RESET ROLE;
SELECT es_register_upcaster('Mine', 1, 'same'), es_register_upcaster('Mine', 2, 'same');
SELECT data, schema_version FROM es_read_stream('Mine-1');
DROP OWNED BY regress_upcaster, regress_other, regress_reader;
DROP ROLE regress_upcaster, regress_other, regress_reader;


-- ---- errors ----

SELECT statement, outcome('SELECT es_register_upcaster' || statement) FROM unnest(ARRAY[
    $$('C', 1, 'same', 'A', 1)$$,
    $$('C', 1, 'same', 'C', 1)$$,
    $$('C', 1, 'same', 'C', 7)$$,
    $$('', 1, 'same')$$,
    $$('-x', 1, 'same')$$,
    $$(repeat('x', 256), 1, 'same')$$,
    $$('D', 0, 'same')$$,
    $$('D', -2147483648, 'same')$$,
    $$('D', 2147483647, 'same')$$,
    $$('D', 2147483647, 'same', 'E')$$,
    $$('D', 2147483647, 'same', 'E', 2147483647)$$,
    $$('D', 1, 'same', 'E', 0)$$,
    $$('D', 1, 'same', '')$$,
    $$('D', 1, 'same', E'a\nb')$$,
    $$('D', 1, 'same', repeat('x', 256))$$,
    $$('D', 1, 'unknown')$$,
    $$('D', 1, 'public.unknown')$$,
    $$('D', 1, 'unknown.same')$$,
    $$('D', 1, '')$$,
    $$('D', 1, 'same(jsonb, jsonb)')$$,
    $$('D', 1, 'jsonb_contains')$$,
    $$('D', 1, 'jsonb_set')$$,
    $$(NULL, 1, 'same')$$,
    $$('D', NULL, 'same')$$,
    $$('D', 1, NULL)$$,
    $$('D', 1, 'jsonb_concat')$$]) statement;
BEGIN READ ONLY;
SELECT outcome($$ SELECT es_register_upcaster('D', 1, 'same') $$);
COMMIT;
SELECT type, from_schema, to_type, to_schema, function FROM eventstore.upcaster ORDER BY type, from_schema;


-- ---- reading ----

-- An upcaster may itself read more streams than a process remembers the names of: the
-- event that it works on keeps that of its own.
CREATE FUNCTION reading(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('streams', count(DISTINCT stream)) FROM es_read_all(max_count => NULL, types => '{Stood}') $$;
SELECT count(*)
FROM (SELECT array_agg('Crowd-' || n) AS streams FROM generate_series(1, 8200) n) c,
    es_append_batch(streams, array_fill('Stood'::text, '{8200}'), array_fill(jsonb '{}', '{8200}'));
SELECT version FROM es_append('Reading-1', 'Read');
SELECT es_register_upcaster('Read', 1, 'reading');
SELECT stream, data, schema_version FROM es_read_all(types => '{Read}');

-- What it may not do: work for consumers in the midst of a fetch.
CREATE FUNCTION meddling(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('acked', es_ack('meddled', 'me', '{}')) $$;
SELECT version FROM es_append('Meddled-1', 'Meddled');
SELECT es_create_subscription('meddled', types => '{Meddled}', max_retries => 0);
SELECT es_register_upcaster('Meddled', 1, 'meddling');
SELECT outcome($$ SELECT es_read_stream('Meddled-1') $$);
SELECT position FROM es_fetch('meddled', 'me');
SELECT reason, sqlstate, detail, hint, context LIKE '%SQL function "meddling"%' AS context FROM eventstore.parked_events WHERE subscription = 'meddled';
SELECT es_ack('meddled', 'me', '{}');
-- Nor may it append, or change anything of the store.
CREATE FUNCTION meddle(act text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION meddling(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS %L', 'SELECT to_jsonb(a) FROM ' || act || ' a');
    RETURN split_part(outcome($q$ SELECT data FROM es_read_stream('Meddled-1') $q$), E'\n', 1);
END $$;
SELECT act, meddle(act)
FROM unnest(ARRAY[
    $$es_append('Meddled-2', 'Meddled')$$,
    $$es_append_events('Meddled-2', '[{"type": "Meddled"}]')$$,
    $$es_append_batch('{Meddled-2}', '{Meddled}', '{"{}"}')$$,
    $$es_check_version('Meddled-1', 1)$$,
    $$es_delete_stream('Meddled-1')$$,
    $$es_set_retention('Meddled', 1)$$,
    $$es_run_projection('any')$$,
    $$es_stream_version('Meddled-1')$$]) act;
SELECT es_stream_version('Meddled-1'), es_stream_version('Meddled-2');

-- An upcaster does not drop what is at work.
SELECT version FROM es_append('Self-1', 'SelfDropped');
CREATE FUNCTION drop_self(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN DROP FUNCTION drop_self(jsonb, jsonb) CASCADE; RETURN data; END $$;
SELECT es_register_upcaster('SelfDropped', 1, 'drop_self');
\set VERBOSITY sqlstate
SELECT data FROM es_read_stream('Self-1');
\set VERBOSITY default


-- ---- memory ----

-- A process keeps one list of upcasters, however often they have changed under calls that used them.
SELECT count(*) FROM pg_backend_memory_contexts WHERE ident = 'eventstore upcasters';
