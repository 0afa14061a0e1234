-- Ids of events: those that the server derives, and the way from an id to its event.

CREATE EXTENSION eventstore;

-- Computed apart from this library, from the description in src/log/event_id.h.
SELECT eventstore.event_id_under(a, b, p, t::timestamptz) = id AS derived,
       eventstore.event_id_position(a, b, id) = p AS deciphered
FROM (VALUES
    (1::bigint, 2::bigint, 1::bigint, '2026-01-02 03:04:05.678901+00', '019b7ca9-8f2e-7e6a-a381-4e480a348d54'::uuid),
    (1, 2, 2, '2026-01-02 03:04:05.678901+00', '019b7ca9-8f2e-7e6a-bee6-dd915fdbcfc4'),
    (1, 2, 4611686018427387903, '2026-01-02 03:04:05.678901+00', '019b7ca9-8f2e-7e6a-a158-b755a064b849'),
    (9223372036854775807, 9223372036854775807, 4294967296, '1970-01-01 00:00:00+00', '00000000-0000-7000-8af2-791d01608028'),
    (1234567890123456789, 987654321987654321, 57451, '1999-12-31 23:59:59.999999+00', '00dc6acf-abff-7ffb-b087-ad5da9a4afa4')) v (a, b, p, t, id);
-- There and back, and no two alike.
SELECT count(*) FILTER (WHERE eventstore.event_id_position(7, 8, id) <> p) AS wrong, count(DISTINCT id)
FROM generate_series(1, 20000) p, eventstore.event_id_under(7, 8, p, '2026-01-01 00:00:00+00') id;
-- Under another secret an id leads nowhere.
SELECT count(*) FILTER (WHERE eventstore.event_id_position(7, 9, eventstore.event_id_under(7, 8, p, now())) < 1e12) AS found
FROM generate_series(1, 20000) p;
-- What is no position, no time, no such id.
SELECT eventstore.event_id_under(1, 2, 0, now());
SELECT eventstore.event_id_under(1, 2, 4611686018427387904, now());
SELECT eventstore.event_id_under(1, 2, NULL, now());
SELECT eventstore.event_id_under(1, 2, 3, t) FROM unnest('{1969-12-31 23:59:59.999999+00, -infinity, infinity, 10889-08-02 05:31:50.655999+00, 10889-08-02 05:31:50.656+00}'::timestamptz[]) t;
SELECT eventstore.event_id_position(1, 2, 'e9b7ca98-f2e7-4e6a-8e9e-9c21ca8e4bf7'),
       eventstore.event_id_position(1, 2, '019b7ca9-8f2e-7e6a-4e9e-9c21ca8e4bf7');

-- ---- before the first append ----

SELECT es_read_event('019b7ca9-8f2e-7e6a-a381-4e480a348d54') IS NULL AS none;
\set VERBOSITY terse
SELECT eventstore.event_id(1, now());
\echo :SQLSTATE
SELECT es_read_event(NULL);
\echo :SQLSTATE
\set VERBOSITY default

-- ---- derived and stored ----

SELECT version FROM es_append('Order-1', 'Placed', '{"n": 1}');
SELECT version FROM es_append('Order-1', 'Placed', '{"n": 2}', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM es_append_events('Order-1', '[{"type": "Paid"}, {"type": "Paid"}]');
SELECT count(*) FROM es_append_batch('{Order-2,Order-2,Order-2,Order-2}', '{A,B,C,D}', ARRAY['{}', '{}', '{}', '{}']::jsonb[],
    created_at => '{2001-02-03 04:05:06.789+00, 1969-01-01 00:00:00+00, 12000-01-01 00:00:00+00, NULL}');
SELECT l.stream, l.version, l.event_id IS NULL AS derived,
       substr(e.event_id::text, 15, 1) AS uuid_version, es_read_event(e.event_id) = e AS found,
       e.event_id = coalesce(l.event_id, eventstore.event_id(l.position, l.created_at)) AS same
FROM eventstore.event_log l, es_read_all(0) e
WHERE e.position = l.position ORDER BY l.position;
SELECT count(*) = count(DISTINCT event_id) AS unique FROM es_read_all(0);
-- The time in an id is that of the event.
SELECT ('x' || translate(left(event_id::text, 13), '-', ''))::bit(48)::bigint = trunc(extract(epoch FROM created_at) * 1000) AS same_time
FROM es_read_stream('Order-1') WHERE version <> 2;
-- All ways of reading give the same ids.
SELECT count(DISTINCT ids) FROM (
    SELECT array_agg(event_id ORDER BY version) AS ids FROM es_read_stream('Order-1')
    UNION ALL SELECT array_agg(event_id ORDER BY version) FROM es_read_all(0) WHERE stream = 'Order-1'
    UNION ALL SELECT array_agg(event_id ORDER BY version) FROM es_read_category('Order') WHERE stream = 'Order-1'
    UNION ALL SELECT array_agg(event_id ORDER BY version) FROM es_query('[{}]') WHERE stream = 'Order-1'
    UNION ALL SELECT array_agg(event_id ORDER BY version) FROM eventstore.events WHERE stream = 'Order-1'
    UNION ALL SELECT array_agg((e ->> 'event_id')::uuid ORDER BY n) FROM es_load('Order-1') s, jsonb_array_elements(s.events) WITH ORDINALITY x (e, n)) w;
-- An id that nobody has.
SELECT es_read_event(i) IS NULL AS none
FROM unnest('{00000000-0000-4000-8000-000000000002, 019b7ca9-8f2e-7e6a-a381-4e480a348d54, 00000000-0000-0000-0000-000000000000}'::uuid[]) i;
-- The right position, another time: none.
SELECT es_read_event(overlay(event_id::text PLACING '0' FROM 13)::uuid) IS NULL AS none FROM es_read_stream('Order-2', 1, 1);

-- ---- as the id of a call ----

\set VERBOSITY sqlstate
SELECT event_id AS first_id FROM es_read_stream('Order-1', 1, 1) \gset
-- The same event again.
SELECT version, duplicate FROM es_append('Order-1', 'Placed', '{"n": 1}', event_id => :'first_id');
-- Another one.
SELECT * FROM es_append('Order-1', 'Placed', '{"n": 7}', event_id => :'first_id');
SELECT * FROM es_append('Order-1', 'Paid', '{"n": 1}', event_id => :'first_id');
SELECT * FROM es_append('Order-3', 'Placed', '{"n": 1}', event_id => :'first_id');
-- In a call of several, with a stored one.
SELECT version, duplicate FROM es_append_events('Order-1', jsonb_build_array(
    jsonb_build_object('type', 'Placed', 'data', '{"n": 1}'::jsonb, 'event_id', :'first_id'),
    jsonb_build_object('type', 'Placed', 'data', '{"n": 2}'::jsonb, 'event_id', '00000000-0000-4000-8000-000000000001')));
SELECT * FROM es_append_events('Order-1', jsonb_build_array(
    jsonb_build_object('type', 'Placed', 'data', '{"n": 1}'::jsonb, 'event_id', :'first_id'),
    jsonb_build_object('type', 'Placed', 'event_id', '00000000-0000-4000-8000-000000000009')));
-- Of an event of this transaction, and of one that it took back.
BEGIN;
SELECT version FROM es_append('Order-4', 'Placed');
SELECT event_id AS own_id FROM es_read_stream('Order-4') \gset
SELECT (es_read_event(:'own_id')).stream;
SELECT version, duplicate FROM es_append('Order-4', 'Placed', event_id => :'own_id');
SAVEPOINT s;
SELECT version FROM es_append('Order-4', 'Placed', '{"n": 2}');
SELECT event_id AS gone_id FROM es_read_stream('Order-4', 2) \gset
ROLLBACK TO s;
SELECT es_read_event(:'gone_id') IS NULL AS none;
SELECT version, duplicate FROM es_append('Order-4', 'Placed', '{"n": 3}', event_id => :'gone_id');
COMMIT;
SELECT version, event_id IS NULL AS derived FROM eventstore.event_log WHERE stream = 'Order-4' ORDER BY version;
\set VERBOSITY default

-- ---- taken away ----

SELECT event_id AS truncated_id FROM es_read_stream('Order-1', 1, 1) \gset
SELECT es_truncate_stream('Order-1', 3);
SELECT es_read_event(:'truncated_id') IS NULL AS none;
SELECT version, duplicate FROM es_append('Order-1', 'Placed', '{"n": 1}', event_id => :'truncated_id');
SELECT es_scavenge();
SELECT es_read_event(:'truncated_id') IS NULL AS none;
SELECT version, duplicate FROM es_append('Order-1', 'Placed', '{"n": 1}', event_id => :'truncated_id');

-- ---- in what projections and triggers see ----

CREATE TABLE seen (position bigint, event_id uuid);
CREATE FUNCTION see(event es_event) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO seen VALUES ((event).position, (event).event_id) $$;
SELECT es_create_projection('seeing', handler => 'see', mode => 'inline', start_after => es_head());
SELECT es_wait_for_projection('seeing');
SELECT version FROM es_append('Order-5', 'Placed');
SELECT version FROM es_append('Order-5', 'Placed', event_id => '00000000-0000-4000-8000-000000000005');
SELECT version FROM es_append('Other-5', 'Caused', metadata => '{"x": 1}');
SELECT count(*), bool_and(s.event_id = e.event_id) AS same FROM seen s JOIN eventstore.events e USING (position);
SELECT es_drop_projection('seeing');

-- ---- upcast, and as the caller sees it ----

CREATE FUNCTION rename(data jsonb, metadata jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$ SELECT '{"new": true}'::jsonb $$;
SELECT es_register_upcaster('Caused', 1, 'rename', to_schema => 2);
SELECT e.type, e.schema_version, e.data FROM es_read_event((SELECT event_id FROM es_read_stream('Other-5'))) e;

-- ---- a session keeps no secret that a restore has replaced ----

-- The seal is broken, secret and check of another store come, and the next append seals again.
SELECT event_id = eventstore.event_id_under(1, 2, position, created_at) AS other_secret FROM es_read_stream('Other-5');
SET eventstore.restore = on;
INSERT INTO eventstore.stream (stream_key, name) VALUES (7777, 'Restored-1');
SELECT setval('eventstore.id_secret_1', 1), setval('eventstore.id_secret_2', 2), setval('eventstore.id_check', 7938033928884268048) > 0 AS set;
RESET eventstore.restore;
SELECT event_id = eventstore.event_id_under(1, 2, position, created_at) AS other_secret FROM es_read_stream('Other-5');
SELECT version FROM es_append('Other-5', 'Sealed');
SELECT event_id = eventstore.event_id_under(1, 2, position, created_at) AS other_secret FROM es_read_stream('Other-5');

-- The secret can be read by nobody who was not given it.
SELECT c.relname, c.relacl FROM pg_class c WHERE c.relname ~ '^id_' AND c.relkind = 'S' ORDER BY 1;
SELECT * FROM es_check();
