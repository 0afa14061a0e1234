-- An append that is repeated, because its answer was lost, is stored once.

CREATE EXTENSION eventstore;

-- Ids that are easy to read.
CREATE FUNCTION id(n int) RETURNS uuid
    LANGUAGE sql
    IMMUTABLE
    AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;

-- The client makes the id.  The second call stores nothing and returns the first
-- one's answer.
SELECT * FROM es_append('Order-1', 'OrderPlaced', '{"a": 1, "b": [2]}', 0, event_id => id(1)) \gset
SELECT :version, :'duplicate';
SELECT handed_out FROM eventstore.status \gset
SELECT version, position - :position AS moved, duplicate
FROM es_append('Order-1', 'OrderPlaced', '{"b": [2], "a": 1}', 0, event_id => id(1));
SELECT es_stream_version('Order-1'), handed_out - :handed_out AS "used up" FROM eventstore.status;

-- Also long after, and whatever expected_version now says.
SELECT version FROM es_append('Order-1', 'OrderPaid', '{}', 1, event_id => id(2));
SELECT version FROM es_append('Order-1', 'OrderShipped', '{}', 2);
SELECT expected, version, position - :position AS moved, duplicate
FROM unnest(ARRAY[NULL, 0, 1, 2, 3, 99, -4]) expected,
    LATERAL es_append('Order-1', 'OrderPlaced', '{"a": 1, "b": [2]}', expected, event_id => id(1));

-- Metadata and tags are not compared.
SELECT version, duplicate
FROM es_append('Order-1', 'OrderPlaced', '{"a": 1, "b": [2]}', metadata => '{"attempt": 2}', event_id => id(1), tags => ARRAY['late']);
BEGIN;
SET LOCAL eventstore.metadata = '{"attempt": 3}';
SELECT version, duplicate
FROM es_append('Order-1', 'OrderPlaced', '{"a": 1, "b": [2]}', event_id => id(1));
COMMIT;
SELECT version, metadata, tags FROM es_read_stream('Order-1', max_count => 1);

-- Another type, other data, another stream: the id belongs to another event.
SELECT * FROM es_append('Order-1', 'OrderPayed', '{"a": 1, "b": [2]}', event_id => id(1));
\echo :SQLSTATE
SELECT * FROM es_append('Order-1', 'OrderPlaced', '{"a": 1, "b": [3]}', event_id => id(1));
\echo :SQLSTATE
SELECT * FROM es_append('Order-2', 'OrderPlaced', '{"a": 1, "b": [2]}', event_id => id(1));
\echo :SQLSTATE
SELECT * FROM es_append('Order-2', 'OrderPlaced', '{"a": 1, "b": [2]}', 0, event_id => id(1));
\echo :SQLSTATE

-- Those that failed have left nothing.
SELECT es_stream_version('Order-1'), es_stream_version('Order-2'), count(*) AS streams FROM eventstore.streams;

-- Twice in one transaction, and in one statement.
BEGIN;
SELECT version, duplicate FROM es_append('Order-3', 'A', event_id => id(31));
SELECT version, duplicate FROM es_append('Order-3', 'A', event_id => id(31));
COMMIT;
SELECT a.version, a.duplicate, b.version, b.duplicate, a.position = b.position AS same
FROM es_append('Order-3', 'B', event_id => id(32)) a, LATERAL es_append('Order-3', 'B', event_id => id(32), expected_version => a.version) b;

-- What was rolled back is not a repetition.
BEGIN;
SAVEPOINT s;
SELECT version, duplicate FROM es_append('Order-3', 'C', event_id => id(33));
ROLLBACK TO s;
SELECT version, duplicate FROM es_append('Order-4', 'D', event_id => id(33));
ROLLBACK;
SELECT version, duplicate FROM es_append('Order-5', 'E', event_id => id(33));

-- An id that loses can be caught, and the transaction goes on.
DO $$
DECLARE
    answer record;
BEGIN
    BEGIN
        PERFORM es_append('Order-6', 'A', event_id => id(1));
    EXCEPTION
        WHEN SQLSTATE 'SE003' THEN
            RAISE NOTICE 'caught';
    END;
    SELECT * INTO answer FROM es_append('Order-6', 'A', event_id => id(61));
    RAISE NOTICE 'version %, duplicate %', answer.version, answer.duplicate;
END $$;

-- Data that is stored out of line is compared as well.
SELECT a.version, a.duplicate
FROM (SELECT jsonb_agg(md5(i::text)) AS data FROM generate_series(1, 10000) i) d,
    LATERAL es_append('Large-1', 'A', d.data, event_id => id(71)) a;
SELECT a.version, a.duplicate
FROM (SELECT jsonb_agg(md5(i::text)) AS data FROM generate_series(1, 10000) i) d,
    LATERAL es_append('Large-1', 'A', d.data, event_id => id(71)) a;
SELECT a.version, a.duplicate
FROM (SELECT jsonb_agg(md5((i % 9999)::text)) AS data FROM generate_series(1, 10000) i) d,
    LATERAL es_append('Large-1', 'A', d.data, event_id => id(71)) a;
\echo :SQLSTATE


-- ---- several events ----

-- A call that is repeated as a whole.
CREATE FUNCTION events(VARIADIC ids int[]) RETURNS jsonb
    LANGUAGE sql
    AS $$
    SELECT jsonb_agg(jsonb_build_object('type', 'T' || n, 'event_id', id(n), 'data', n) ORDER BY o)
    FROM unnest(ids) WITH ORDINALITY u (n, o)
    $$;
SELECT * FROM es_append_events('Many-1', events(101, 102, 103)) \gset
SELECT :version, :'duplicate';
SELECT version, position - :position AS moved, duplicate
FROM es_append_events('Many-1', events(101, 102, 103), 0);
SELECT version FROM es_append('Many-1', 'Other');
SELECT version, position - :position AS moved, duplicate
FROM es_append_events('Many-1', events(101, 102, 103), 0);

-- What counts is where the ids stand, not which call brought them.
SELECT version, duplicate FROM es_append_events('Many-1', events(101, 102));
SELECT version, position - :position AS moved, duplicate FROM es_append_events('Many-1', events(102, 103));
SELECT version, duplicate FROM es_append('Many-1', 'T101', '101', event_id => id(101));
SELECT version, duplicate FROM es_append('Many-2', 'T201', '201', event_id => id(201));
SELECT version, duplicate FROM es_append('Many-2', 'T202', '202', event_id => id(202));
SELECT version, duplicate FROM es_append_events('Many-2', events(201, 202), 0);

-- They must stand one after another, in that order, all of them.
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce('ok: ' || answer, 'ok');
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT says, outcome(format('SELECT e FROM es_append_events(%L, %L) e', stream, events))
FROM (VALUES
    (1, 'in another order', 'Many-1', events(102, 101)),
    (2, 'with a gap', 'Many-1', events(101, 103)),
    (3, 'one event more', 'Many-1', events(102, 103, 104)),
    (4, 'one event more in front', 'Many-1', events(104, 101)),
    (5, 'one event more between', 'Many-1', events(101, 104, 102)),
    (6, 'ids of two streams', 'Many-1', events(101, 202)),
    (7, 'another stream', 'Many-3', events(101, 102, 103)),
    (8, 'the same twice', 'Many-1', events(101, 101)),
    (9, 'the same new one twice', 'Many-1', events(105, 105)),
    (10, 'another type', 'Many-1', jsonb_set(events(101, 102, 103), '{2,type}', '"X"')),
    (11, 'other data', 'Many-1', jsonb_set(events(101, 102, 103), '{0,data}', '0')),
    (12, 'ids for some only', 'Many-1', events(106) || '[{"type": "X"}]'),
    (13, 'ids for some only', 'Many-1', '[{"type": "X"}]' || events(106))) v (n, says, stream, events)
ORDER BY n;
SELECT stream, version, type FROM es_read_category('Many');


-- ---- many streams ----

CREATE FUNCTION append(streams text[], ids int[], types text DEFAULT 'T', OUT stream text, OUT version bigint, OUT "position" bigint, OUT duplicate boolean)
    RETURNS SETOF record
    LANGUAGE sql
    AS $$
    SELECT b.*
    FROM (SELECT array_agg(types) AS types, array_agg(to_jsonb(n) ORDER BY o) AS data, array_agg(id(n) ORDER BY o) AS event_ids
        FROM unnest(ids) WITH ORDINALITY u (n, o)) a,
        LATERAL es_append_batch(streams, a.types, a.data, event_ids => a.event_ids) b
    ORDER BY b.stream
    $$;

-- Repeated as a whole: the original places, stream by stream.
CREATE TABLE answer AS SELECT * FROM append('{Batch-1, Batch-2, Batch-1}', '{301, 302, 303}');
SELECT stream, version, duplicate FROM answer;
SELECT stream, version, b.position = a.position AS same, b.duplicate
FROM append('{Batch-1, Batch-2, Batch-1}', '{301, 302, 303}') b
JOIN answer a USING (stream, version)
ORDER BY stream;

-- The order of the streams among one another does not count.
SELECT stream, version, duplicate FROM append('{Batch-2, Batch-1, Batch-1}', '{302, 301, 303}');

-- Whatever the expected versions say.
SELECT stream, version, duplicate
FROM es_append_batch('{Batch-1, Batch-2}', '{T, T}', '{301, 302}', '{7, 7}', event_ids => ARRAY[id(301), id(302)])
ORDER BY stream;

-- Its events are also found by the other functions, and theirs by it.
SELECT version, duplicate FROM es_append('Batch-1', 'T', '301', 0, event_id => id(301));
SELECT version, duplicate
FROM es_append_events('Batch-1', jsonb_build_array(
    jsonb_build_object('type', 'T', 'data', 301, 'event_id', id(301)),
    jsonb_build_object('type', 'T', 'data', 303, 'event_id', id(303))));
SELECT stream, version, duplicate
FROM es_append_batch('{Order-1, Many-2}', '{OrderPaid, T201}', '{"{}", 201}', event_ids => ARRAY[id(2), id(201)])
ORDER BY stream;

SELECT says, outcome(format('SELECT b FROM append(%L, %L, %L) b', streams, ids, type))
FROM (VALUES
    (1, 'in another order in its stream', '{Batch-1, Batch-2, Batch-1}', '{303, 302, 301}', 'T'),
    (2, 'one stream known, one new', '{Batch-1, Batch-3}', '{301, 304}', 'T'),
    (3, 'one event known, one new', '{Batch-2, Batch-2}', '{302, 304}', 'T'),
    (4, 'streams swapped', '{Batch-2, Batch-1}', '{301, 302}', 'T'),
    (5, 'another type', '{Batch-1, Batch-2, Batch-1}', '{301, 302, 303}', 'U'),
    (6, 'the same id twice, one stream', '{Batch-1, Batch-1}', '{305, 305}', 'T'),
    (7, 'the same id twice, two streams', '{Batch-1, Batch-2}', '{305, 305}', 'T')) v (n, says, streams, ids, type)
ORDER BY n;
SELECT * FROM es_append_batch('{Batch-1, Batch-2}', '{T, T}', '{1, 2}', event_ids => ARRAY[id(306), NULL]);
\echo :SQLSTATE
SELECT stream, version FROM es_read_category('Batch');
SELECT count(*) AS "new streams" FROM eventstore.streams WHERE stream = 'Batch-3';
