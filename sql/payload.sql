-- Bytes that the log carries beside data: payload, and its content_type.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;

CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
-- So many bytes that hardly compress.
CREATE FUNCTION noise(n int, seed text) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $$ SELECT substr(string_agg(sha256(convert_to(seed || i, 'UTF8')), ''), 1, n) FROM generate_series(0, n / 32) i $$;
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text; detail text; context text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce('ok: ' || answer, 'ok');
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, context = PG_EXCEPTION_CONTEXT;
        RETURN concat_ws(E'\n', SQLSTATE || ': ' || left(SQLERRM, 100), nullif(detail, ''),
            (SELECT string_agg(line, E'\n') FROM regexp_split_to_table(context, '\n') line WHERE line ~ '^(event [0-9]|"payload"|projection)'));
END $$;
\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all

-- ---- append ----

SELECT * FROM es_append('Order-1', 'Placed', payload => '\x00ff0a5c00', content_type => 'application/x-protobuf');
-- Beside data; without a content type; no bytes are not the same as none.
SELECT * FROM es_append('Order-1', 'Paid', '{"amount": 5}', payload => '\x01');
SELECT * FROM es_append('Order-1', 'Packed', payload => '', content_type => 'text/plain; charset=utf-8');
SELECT * FROM es_append('Order-1', 'Sent', payload => NULL, content_type => NULL);

-- In JSON the bytes are in base64; null is as if it were left out.
SELECT * FROM es_append_events('Order-1', '[
    {"type": "Placed", "payload": "AP8KXAA=", "content_type": "application/x-protobuf"},
    {"type": "Paid", "payload": "AQ==", "data": {"amount": 6}},
    {"type": "Packed", "payload": "", "content_type": "text/plain; charset=utf-8"},
    {"type": "Sent", "payload": null, "content_type": null}]');

SELECT * FROM es_append_batch('{Order-2, Order-1, Order-2, Order-2}', '{Placed, Placed, Paid, Packed}', '{"{}", "[1]", "{}", "{}"}',
    payloads => ARRAY['\x00', '\x0001', NULL, '']::bytea[], content_types => ARRAY['application/x-protobuf', NULL, NULL, 'text/plain']);
SELECT * FROM es_append_batch('{Order-2}', '{Sent}', '{1}', payloads => NULL, content_types => NULL);
SELECT * FROM es_append_batch('{Order-2}', '{Sent}', '{2}', payloads => '{NULL}', content_types => '{NULL}');
SELECT * FROM es_append_batch('{}', '{}', '{}', payloads => '{}', content_types => '{}');

-- ---- every way of reading ----

SELECT * FROM es_append('Order-3', 'Placed', tags => '{a}', metadata => '{"correlation_id": "c"}', payload => '\x00c3a900', content_type => 'application/x-protobuf');
SELECT position, stream, version, type, data, content_type, payload FROM es_read_all(0);
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_read_stream('Order-1') s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_read_stream('Order-1', backwards => true) s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_read_all(backwards => true) s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_read_category('Order') s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_query('[{}]') s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_query('[{"tags": ["a"], "types": ["Placed"]}]') s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN es_read_correlation('c') s ON e = s;
SELECT count(*) AS "the same" FROM es_read_all(0) e JOIN eventstore.events s ON to_jsonb(e) = to_jsonb(s);
-- A type is one type, whatever its events carry.
SELECT position, content_type FROM es_read_all(0, types => '{Placed}');
SELECT position, content_type FROM es_read_category('Order') WHERE type = 'Packed';
SELECT position FROM es_query('[{"types": ["Packed"]}]');
SELECT outcome($$SELECT es_append('Order-9', 'T', condition => '{"query": [{"types": ["Packed"]}], "after": 10}')$$);
SELECT category, type, schema_version, content_type, events FROM eventstore.event_types ORDER BY type, content_type;

-- In one row: base64 without line breaks, null for none.
SELECT e ->> 'version' AS version, jsonb_typeof(e -> 'payload') AS kind, e ->> 'payload' AS payload, e ->> 'content_type' AS content_type
FROM es_load('Order-1'), jsonb_array_elements(events) e;
SELECT es_append('Long-1', 'T', payload => noise(1000, 'load')) \g /dev/null
SELECT length(events #>> '{0,payload}') AS length, position(E'\n' IN events #>> '{0,payload}') AS "line break",
       decode(events #>> '{0,payload}', 'base64') = noise(1000, 'load') AS same
FROM es_load('Long-1');
-- What was loaded can be appended.
SELECT * FROM es_append_events('Order-4', (SELECT jsonb_agg(jsonb_build_object('type', e -> 'type', 'payload', e -> 'payload', 'content_type', e -> 'content_type') ORDER BY n)
    FROM es_load('Order-1'), jsonb_array_elements(events) WITH ORDINALITY x (e, n)));
SELECT count(*), bool_and((a.payload, a.content_type) IS NOT DISTINCT FROM (b.payload, b.content_type)) AS same
FROM es_read_stream('Order-1') a JOIN es_read_stream('Order-4') b USING (version);

-- ---- what is wrong ----

SELECT outcome(statement)
FROM unnest(ARRAY[
    $$SELECT es_append('Order-9', 'T', content_type => 'text/plain')$$,
    $$SELECT es_append('Order-9', 'T', content_type => '')$$,
    $$SELECT es_append('Order-9', 'T', payload => '', content_type => '')$$,
    $$SELECT es_append('Order-9', 'T', payload => '', content_type => E'text/plain\n')$$,
    $$SELECT es_append('Order-9', 'T', payload => '', content_type => '-')$$,
    $$SELECT es_append('Order-9', 'T', payload => '', content_type => repeat('é', 256))$$,
    $$SELECT es_append('Order-9', 'T', payload => '', content_type => repeat('é', 255))$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "content_type": "text/plain"}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "content_type": "text/plain", "payload": null}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T", "content_type": "", "payload": ""}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T", "content_type": 1, "payload": ""}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": 1}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": ["AA=="]}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": "AA=*"}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": "A"}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": "A="}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": "AAé="}]')$$,
    $$SELECT es_append_events('Order-9', '[{"type": "T"}, {"type": "T", "payload": "-_=="}]')$$,
    $$SELECT es_append_batch('{Order-9, Order-9}', '{T, T}', '{1, 2}', content_types => '{NULL, text/plain}')$$,
    $$SELECT es_append_batch('{Order-9, Order-9}', '{T, T}', '{1, 2}', payloads => '{"", ""}', content_types => '{NULL, ""}')$$,
    $$SELECT es_append_batch('{Order-9}', '{T}', '{1}', payloads => '{"", ""}')$$,
    $$SELECT es_append_batch('{Order-9}', '{T}', '{1}', payloads => '{}')$$,
    $$SELECT es_append_batch('{Order-9}', '{T}', '{1}', payloads => '{""}', content_types => '{a, b}')$$,
    $$SELECT es_append_batch('{Order-9}', '{T}', '{1}', payloads => '{{""}}')$$]) statement;
-- Line breaks are what decode() takes.
SELECT * FROM es_append_events('Base64-1', '[{"type": "T", "payload": " AP8K\r\nXA\tA=\n"}]');
SELECT payload FROM es_read_stream('Base64-1');

-- The limit counts all that is stored, before compression.
SELECT outcome($$SELECT version FROM es_append('Large-1', 'T', payload => repeat('x', 1048570)::bytea)$$);
SELECT outcome($$SELECT version FROM es_append('Large-1', 'T', payload => repeat('x', 1048576)::bytea)$$);
SELECT outcome($$SELECT version FROM es_append_batch('{Large-1, Large-1}', '{T, T}', '{1, 2}', payloads => ARRAY['', repeat('x', 1048577)::bytea])$$);
SELECT outcome($$SELECT version FROM es_append_events('Large-1', jsonb_build_array('{"type": "T"}', jsonb_build_object('type', 'T', 'payload', encode(repeat('x', 1048577)::bytea, 'base64'))) #- '{0}')$$);

-- ---- large ones, stored out of line ----

CREATE TABLE source AS SELECT n, noise(n * 100000, 'source') AS bytes FROM generate_series(0, 9) n;
SELECT count(*) FROM source, es_append('Toast-1', 'T', payload => bytes, content_type => 'image/png');
SELECT count(*) FROM (SELECT array_agg(bytes ORDER BY n) AS bytes FROM source) s,
    es_append_batch(array_fill('Toast-2'::text, '{10}'), array_fill('T'::text, '{10}'), array_fill('{}'::jsonb, '{10}'), payloads => bytes);
-- Copied from slot to slot.
SELECT count(*) FROM es_read_stream('Toast-1') e, es_append('Toast-3', 'T', payload => e.payload);
SELECT count(*) FROM (SELECT array_agg(payload ORDER BY version) AS bytes FROM eventstore.events WHERE stream = 'Toast-1') s,
    es_append_batch(array_fill('Toast-4'::text, '{10}'), array_fill('T'::text, '{10}'), array_fill('{}'::jsonb, '{10}'), payloads => bytes);
SELECT e.stream, count(*), bool_and(e.payload = s.bytes) AS same, count(e.content_type) AS typed
FROM source s JOIN es_read_category('Toast') e ON e.version = s.n + 1 GROUP BY e.stream ORDER BY e.stream;
SELECT count(*), bool_and(decode(e ->> 'payload', 'base64') = bytes) AS same
FROM es_load('Toast-2'), jsonb_array_elements(events) WITH ORDINALITY x (e, n) JOIN source s ON s.n + 1 = x.n;
-- One that compresses well takes little, and comes back whole.
SELECT version FROM es_append('Zeros-1', 'T', payload => decode(repeat('00', 500000), 'hex'));
SELECT pg_column_size(payload) < 10000 AS compressed,
       pg_column_compression(payload) = 'lz4' OR 'lz4' <> ALL (s.enumvals) AS "by lz4 if the server has it"
FROM eventstore.event_log, pg_settings s WHERE stream = 'Zeros-1' AND s.name = 'default_toast_compression';
SELECT payload = decode(repeat('00', 500000), 'hex') AS same FROM es_read_stream('Zeros-1');
-- Unless it is told not to.
ALTER TABLE eventstore.event_log ALTER COLUMN payload SET STORAGE EXTERNAL;
SELECT version FROM es_append('Zeros-1', 'T', payload => decode(repeat('00', 500000), 'hex'));
SELECT version, pg_column_size(payload) FROM eventstore.events WHERE stream = 'Zeros-1' AND version = 2;

-- ---- the same call again ----

CREATE FUNCTION again(of text, id int, bytes bytea DEFAULT NULL, content_type text DEFAULT NULL, data jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
    AS $$ SELECT outcome(format('SELECT (version, duplicate) FROM es_append(%L, ''T'', %L, event_id => id(%s), payload => %L, content_type => %L)', of, data, id, bytes, content_type)) $$;
CREATE VIEW answers AS
SELECT n, of, again(of, id, bytes, content_type) AS answer
FROM (VALUES
    (1, 'Again-1', 1, NULL, NULL),
    (2, 'Again-1', 1, '', NULL),
    (3, 'Again-1', 2, '\x00ff', NULL),
    (4, 'Again-1', 2, '\x00fe', NULL),
    (5, 'Again-1', 2, '\x00ff00', NULL),
    (6, 'Again-1', 2, NULL, NULL),
    (7, 'Again-1', 2, '\x00ff', 'a/b'),
    (8, 'Again-1', 3, '\x00ff', 'a/b'),
    (9, 'Again-1', 3, '\x00ff', 'a/c'),
    (10, 'Again-1', 3, '\x00ff', NULL),
    (11, 'Again-1', 4, '', NULL),
    (12, 'Again-1', 4, NULL, NULL),
    (13, 'Again-1', 5, noise(100000, 'a'), 'a/b'),
    (14, 'Again-1', 5, noise(99999, 'a'), 'a/b'),
    (15, 'Again-1', 5, noise(99999, 'a') || '\x00', 'a/b'),
    (16, 'Again-1', 6, decode(repeat('00', 100000), 'hex'), NULL),
    (17, 'Again-1', 6, decode(repeat('00', 99999) || '01', 'hex'), NULL)) v (n, of, id, bytes, content_type)
ORDER BY n;
SELECT again('Again-1', 1), again('Again-1', 2, '\x00ff'), again('Again-1', 3, '\x00ff', 'a/b'), again('Again-1', 4, ''),
       again('Again-1', 5, noise(100000, 'a'), 'a/b'), again('Again-1', 6, decode(repeat('00', 100000), 'hex'));
SELECT * FROM answers;
-- Data before bytes.
SELECT again('Again-1', 2, '\x', NULL, '1');
-- Of several events, in each way.
SELECT outcome(format($$SELECT (version, duplicate) FROM es_append_events('Again-2', '[{"type": "T", "event_id": "%s", "payload": "AP8="}, {"type": "T", "event_id": "%s", "payload": "%s"}]')$$, id(11), id(12), base64))
FROM unnest(ARRAY['AA==', 'AA==', 'AQ==']) base64;
SELECT outcome(format($$SELECT (version, duplicate) FROM es_append_batch('{Again-2, Again-2}', '{T, T}', '{"{}", "{}"}', event_ids => ARRAY[id(11), id(12)], payloads => ARRAY['\x00ff', %L]::bytea[])$$, bytes))
FROM unnest(ARRAY['\x00', '\x01']) bytes;
-- Taken away, hidden and then removed: the same answers.
CREATE TABLE answered AS SELECT * FROM answers;
SELECT es_delete_stream('Again-1');
SELECT a.n, b.answer AS before, a.answer FROM answers a JOIN answered b USING (n) WHERE a.answer <> b.answer;
SELECT es_scavenge();
SELECT a.n, b.answer AS before, a.answer FROM answers a JOIN answered b USING (n) WHERE a.answer <> b.answer;
SELECT version, octet_length(digest) AS digest, octet_length(payload_digest) AS payload_digest FROM eventstore.removed_id ORDER BY version;
SELECT version FROM es_append('Again-1', 'T', payload => '\x07', content_type => 'a/b');

-- ---- a content type first used where it is rolled back ----

BEGIN;
SAVEPOINT s;
SELECT version FROM es_append('First-1', 'T', payload => '\x01', content_type => 'first/use');
SELECT content_type, payload FROM es_read_stream('First-1');
ROLLBACK TO s;
SELECT version FROM es_append('First-1', 'T', payload => '\x02', content_type => 'first/use');
SELECT content_type, payload FROM es_read_stream('First-1');
COMMIT;
SELECT content_type, payload FROM es_read_stream('First-1');
BEGIN;
SELECT version FROM es_append('First-1', 'T', payload => '\x03', content_type => 'second/use');
ROLLBACK;
SELECT version FROM es_append('First-1', 'T', payload => '\x04', content_type => 'second/use');
\c
SELECT content_type, payload FROM es_read_stream('First-1');

-- ---- projections ----

SELECT es_head() AS head \gset
CREATE TABLE seen (n int GENERATED ALWAYS AS IDENTITY, by text, version bigint, content_type text, payload bytea, data jsonb);
CREATE FUNCTION see_inline(event es_event) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO seen (by, version, content_type, payload, data) VALUES ('inline handler', event.version, event.content_type, event.payload, event.data) $$;
CREATE FUNCTION see(event es_event) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO seen (by, version, content_type, payload, data) VALUES ('handler', event.version, event.content_type, event.payload, event.data) $$;
CREATE FUNCTION sum_up(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT jsonb_build_object('bytes', coalesce((state ->> 'bytes')::int, 0) + coalesce(octet_length(event.payload), 0), 'last', event.content_type) $$;
SELECT es_create_projection('inline_handler', 'see_inline', mode => 'inline', categories => '{Seen}', start_after => :head);
SELECT es_create_projection('inline_query', query => $$INSERT INTO seen (by, version, content_type, payload, data) SELECT 'inline query', version, content_type, payload, data FROM es_batch$$,
    mode => 'inline', categories => '{Seen}', start_after => :head);
SELECT es_create_projection('inline_reducer', reducer => 'sum_up', mode => 'inline', categories => '{Seen}', start_after => :head);
SELECT es_create_projection('handler', 'see', categories => '{Seen}', start_after => :head);
SELECT es_create_projection('query', query => $$INSERT INTO seen (by, version, content_type, payload, data) SELECT 'query', version, content_type, payload, data FROM es_batch$$,
    categories => '{Seen}', start_after => :head);
SELECT es_create_projection('reducer', reducer => 'sum_up', categories => '{Seen}', start_after => :head);
SELECT count(*) FROM (VALUES ('\x00ff'::bytea, 'a/b'), (noise(50000, 'p'), 'c/d'), ('', NULL), (NULL, NULL)) v (bytes, content_type),
    es_append('Seen-1', 'T', '{"n": 1}', payload => bytes, content_type => v.content_type);
SELECT es_wait_for_projection(name, timeout => '60 s') FROM unnest(ARRAY['handler', 'query', 'reducer']) name;
SELECT by, version, content_type, CASE WHEN octet_length(payload) > 100 THEN (payload = noise(50000, 'p'))::text ELSE payload::text END AS payload, data
FROM seen ORDER BY by, version;
SELECT name, es_projection_state(name, 'Seen-1') FROM unnest(ARRAY['inline_reducer', 'reducer']) name;
SELECT es_aggregate('Seen-1', 'sum_up');
-- A state that is kept is no payload's business.
SELECT es_save_snapshot('Seen-1', 2, '{"bytes": 50002}', 'public.sum_up');
SELECT es_aggregate('Seen-1', 'sum_up');
SELECT snapshot_version, state, version, jsonb_array_length(events), events -> 0 ->> 'payload' AS payload FROM es_load('Seen-1', 'public.sum_up');

-- An upcaster sees and changes data; the bytes stay as they are.
CREATE FUNCTION twice(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql
    AS $$ SELECT data || jsonb_build_object('n', 2 * (data ->> 'n')::int) $$;
SELECT es_register_upcaster('T', 1, 'twice', to_type => 'T2', to_schema => 2);
SELECT version, type, data, content_type, octet_length(payload) FROM es_read_stream('Seen-1');
SELECT version FROM es_append('Seen-1', 'T', '{"n": 4}', payload => '\x04', content_type => 'a/b');
SELECT es_wait_for_projection(name, timeout => '60 s') FROM unnest(ARRAY['handler', 'query', 'reducer']) name;
SELECT by, content_type, payload, data FROM seen WHERE version = 5 ORDER BY by;
SELECT es_drop_projection(name) FROM eventstore.projections;

-- ---- subscriptions ----

SELECT es_create_subscription('mail', types => '{T2}', categories => '{Seen}');
SELECT version, type, data, content_type, octet_length(payload) AS bytes FROM es_fetch('mail', 'anna', 2);
SELECT version, type, data, content_type, octet_length(payload) AS bytes FROM es_fetch('mail', 'anna');

-- ---- triggers ----

-- A trigger may change the payload, as data; the content type is part of the event's key.
CREATE FUNCTION seal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.payload := NEW.payload || '\xff'::bytea;
    RETURN NEW;
END $$;
CREATE TRIGGER seal BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION seal();
CREATE TABLE sealed (payload bytea);
SELECT es_create_projection('sealed', query => 'INSERT INTO sealed SELECT payload FROM es_batch', mode => 'inline', categories => '{Sealed}', start_after => es_head());
SELECT version FROM es_append('Sealed-1', 'T', payload => '\x01');
SELECT version FROM es_append('Sealed-1', 'T');
SELECT payload FROM es_read_stream('Sealed-1');
TABLE sealed;
DROP TRIGGER seal ON eventstore.event_log;

-- ---- the store ----

SELECT * FROM es_check();
-- A key is the hash of the names, and then of the content type.
SELECT count(*) AS wrong FROM eventstore.event_type
WHERE type_key <> eventstore.type_key(category, bucket, type, schema_version, 0, content_type);
SELECT eventstore.type_key('Order', NULL, 'Placed', 1, 0, NULL) = eventstore.type_key('Order', NULL, 'Placed', 1) AS same;
SELECT eventstore.type_key('Order', NULL, 'Placed', 1, 0, 'a/b'), eventstore.type_key(NULL, 7, 'Placed', 1, 0, 'a/b');
