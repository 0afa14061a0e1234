-- Appending to many streams in one call.

CREATE EXTENSION eventstore;

-- One element an event in each array.  All or none; a row a stream, of its last
-- event.
SELECT stream, version, duplicate
FROM es_append_batch(
    ARRAY['Order-1', 'Order-2', 'Order-1', 'Stock-9'],
    ARRAY['OrderPlaced', 'OrderPlaced', 'OrderPaid', 'Reserved'],
    ARRAY['{"customer": "Ada"}', '{"customer": "Grace"}', '{}', '{"n": 2}']::jsonb[])
ORDER BY stream;

-- Positions rise in the order given, whatever the streams.
SELECT stream, version, type, data, metadata, tags, schema_version FROM es_read_all();

-- "position" is that of the stream's last event.
CREATE TABLE answer AS
SELECT * FROM es_append_batch(ARRAY['Order-1', 'Order-2', 'Order-1'], ARRAY['A', 'B', 'C'], ARRAY['{}', '{}', '{}']::jsonb[]);
SELECT a.stream, e.version - a.version AS version, e.position - a.position AS position
FROM answer a, LATERAL es_read_stream(a.stream, backwards => true, max_count => 1) e
ORDER BY stream;

-- All that the events can bear.  A null element is as if it had been left out.
SELECT stream, version
FROM es_append_batch(
    ARRAY['Full-1', 'Full-2', 'Full-1'],
    ARRAY['A', 'B', 'C'],
    ARRAY['{}', '[]', '3']::jsonb[],
    expected_versions => ARRAY[0, NULL, 1],
    metadata => ARRAY['{"user": "ada"}', NULL, '{}']::jsonb[],
    event_ids => ARRAY['0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e01', '0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e02',
        '0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e03']::uuid[],
    created_at => ARRAY['2001-02-03 04:05:06Z', NULL, '1999-01-01 00:00:00.000001Z']::timestamptz[],
    tags => ARRAY['["customer:7", "shop:3"]', NULL, '["shop:3"]']::jsonb[],
    schema_versions => ARRAY[2, NULL, 3])
ORDER BY stream;
SELECT stream, version, type, schema_version, data, metadata, tags, event_id
FROM es_read_category('Full');

-- created_at is as given, else the clock.  The order is that of the call.
SET timezone = 'UTC';
SELECT stream, version, CASE WHEN created_at > '2010-01-01' THEN 'now' ELSE to_char(created_at, 'YYYY-MM-DD HH24:MI:SS.US') END AS created
FROM es_read_category('Full');

-- An expected version is compared with the version just before that event.
SELECT stream, version
FROM es_append_batch(ARRAY['Exp-1', 'Exp-1', 'Exp-2', 'Exp-1'], ARRAY['A', 'B', 'C', 'D'],
    ARRAY['{}', '{}', '{}', '{}']::jsonb[], ARRAY[0, 1, 0, -4])
ORDER BY stream;
SELECT * FROM es_append_batch(ARRAY['Exp-1', 'Exp-1'], ARRAY['E', 'F'], ARRAY['{}', '{}']::jsonb[], ARRAY[3, 3]);
\echo :SQLSTATE
SELECT * FROM es_append_batch(ARRAY['Exp-1', 'Exp-3'], ARRAY['E', 'F'], ARRAY['{}', '{}']::jsonb[], ARRAY[3, 1]);
\echo :SQLSTATE
SELECT * FROM es_append_batch(ARRAY['Exp-3', 'Exp-1'], ARRAY['E', 'F'], ARRAY['{}', '{}']::jsonb[], ARRAY[-1, 3]);
\echo :SQLSTATE
SELECT stream, version
FROM es_append_batch(ARRAY['Exp-3', 'Exp-3'], ARRAY['E', 'F'], ARRAY['{}', '{}']::jsonb[], ARRAY[0, NULL]);

-- Nothing of the losers is there.
SELECT stream, version, type FROM es_read_category('Exp');

-- If one of them cannot be stored, none is.
SELECT * FROM es_append_batch(ARRAY['None-1', 'None-2', ''], ARRAY['A', 'B', 'C'], ARRAY['{}', '{}', '{}']::jsonb[]);
\echo :SQLSTATE
SELECT * FROM es_append_batch(ARRAY['None-1', 'None-2'], ARRAY['A', NULL], ARRAY['{}', '{}']::jsonb[]);
\echo :SQLSTATE
SELECT count(*) FROM eventstore.streams WHERE category = 'None';

-- No events, no answer.
SELECT * FROM es_append_batch('{}', '{}', '{}');
SELECT * FROM es_append_batch('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');

-- eventstore.metadata goes onto each of them, below its own keys.
BEGIN;
SET LOCAL eventstore.metadata = '{"correlation_id": "request-1", "user": "web"}';
SELECT stream, version
FROM es_append_batch(ARRAY['Meta-1', 'Meta-2'], ARRAY['A', 'B'], ARRAY['{}', '{}']::jsonb[],
    metadata => ARRAY[NULL, '{"user": "batch"}']::jsonb[])
ORDER BY stream;
COMMIT;
SELECT stream, metadata FROM es_read_category('Meta');

-- Untyped, as a driver sends it.
PREPARE append AS SELECT stream, version FROM es_append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9);
EXECUTE append('{Driver-1}', '{A}', '{"{\"a\": 1}"}', '{0}', '{"{}"}', NULL, '{NULL}', '{"[\"a\"]"}', '{1}');
DEALLOCATE append;
PREPARE append AS SELECT stream, version FROM es_append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
EXECUTE append('{Driver-1}', '{A}', '{"{}"}', NULL, NULL, NULL, NULL, NULL, NULL, '{"query": [{"tags": ["b"]}]}');
DEALLOCATE append;

-- On condition that nothing which matters was added: looked at once, for the whole call, before any
-- of its events.
SELECT stream, version
FROM es_append_batch('{Seat-1, Seat-2, Seat-1}', '{Taken, Taken, Taken}', '{"{}", "{}", "{}"}', tags => '{"[\"seat:1\"]", "[\"seat:2\"]", "[\"seat:1\"]"}',
    condition => '{"query": [{"tags": ["seat:1"]}, {"tags": ["seat:2"]}]}');
SELECT * FROM es_append_batch('{Seat-3, Seat-2}', '{Taken, Taken}', '{"{}", "{}"}', tags => '{"[\"seat:3\"]", "[\"seat:2\"]"}',
    condition => '{"query": [{"tags": ["seat:3"]}, {"tags": ["seat:2"]}]}');
\echo :SQLSTATE
SELECT es_stream_version('Seat-3') AS "nothing is stored";
SELECT stream, version
FROM es_append_batch('{Seat-3}', '{Taken}', '{"{}"}', tags => '{"[\"seat:3\"]"}',
    condition => jsonb_build_object('query', '[{"tags": ["seat:2"]}]'::jsonb, 'after', (SELECT max(position) FROM es_query('[{"tags": ["seat:2"]}]'))));
SELECT * FROM es_append_batch('{Seat-4}', '{Taken}', '{"{}"}', condition => '{"query": []}');
\echo :SQLSTATE
-- Without events, too.
SELECT * FROM es_append_batch('{}', '{}', '{}', condition => '{"query": [{"tags": ["seat:4"]}]}');
SELECT * FROM es_append_batch('{}', '{}', '{}', condition => '{"query": [{"tags": ["seat:3"]}]}');
\echo :SQLSTATE
-- The first answer to a call that is repeated, whatever the condition says then.
SELECT stream, version, duplicate
FROM generate_series(1, 2) n, LATERAL es_append_batch('{Seat-5}', '{Taken}', '{"{}"}', tags => '{"[\"seat:5\"]"}', event_ids => '{00000000-0000-4000-8000-000000000005}',
    condition => format('{"query": [{"tags": ["seat:5"]}], "after": %s}', n * 0)::jsonb);

-- Positions of a call follow one another: the first is that of the last event, less the number of the
-- others.  However many there are, also beyond what is reserved at once.
CREATE TABLE called AS
SELECT 'Long' || n AS category, n, a.position
FROM unnest(ARRAY[1, 2, 7, 1000, 5000, 8191, 8193, 20000]) n,
    LATERAL (SELECT array_agg('Long' || n || '-' || i % 3) AS streams, array_agg('Turn'::text) AS types, array_agg(to_jsonb(i) ORDER BY i) AS data
        FROM generate_series(1, n) i) c,
    LATERAL (SELECT max(position) AS position FROM es_append_batch(c.streams, c.types, c.data)) a
UNION ALL
SELECT 'Run' || n, n, a.position
FROM unnest(ARRAY[1, 3, 300]) n,
    LATERAL es_append_events('Run' || n || '-1', (SELECT jsonb_agg('{"type": "Turn"}'::jsonb) FROM generate_series(1, n))) a;
SELECT category, count(e.position) AS events, min(e.position) = c.position - n + 1 AS first, max(e.position) = c.position AS last
FROM called c, LATERAL es_read_category(category, max_count => NULL) e
GROUP BY category, n, c.position
ORDER BY c.position;

-- From a table: rows in, events out.
CREATE TABLE import (n int, stream text, type text, data jsonb);
INSERT INTO import
SELECT i, 'Import-' || i % 100, 'Turn', to_jsonb(i) FROM generate_series(1, 5000) i;
SELECT count(*), min(b.version), max(b.version)
FROM (SELECT array_agg(stream ORDER BY n) AS streams, array_agg(type ORDER BY n) AS types, array_agg(data ORDER BY n) AS data FROM import) i,
    LATERAL es_append_batch(i.streams, i.types, i.data) b;
SELECT count(*), bool_and(e.data = to_jsonb(n)) AS "in order"
FROM es_read_category('Import', max_count => 5000) WITH ORDINALITY
    AS e (position, stream, version, type, schema_version, data, metadata, tags, event_id, created_at, content_type, payload, n);

-- The batch belongs to its transaction.
BEGIN;
SELECT stream, version FROM es_append_batch(ARRAY['Tx-1'], ARRAY['A'], ARRAY['{}']::jsonb[]);
SAVEPOINT s;
SELECT stream, version
FROM es_append_batch(ARRAY['Tx-2', 'Tx-1'], ARRAY['B', 'B'], ARRAY['{}', '{}']::jsonb[])
ORDER BY stream;
ROLLBACK TO s;
SELECT stream, version
FROM es_append_batch(ARRAY['Tx-2', 'Tx-1'], ARRAY['C', 'C'], ARRAY['{}', '{}']::jsonb[], ARRAY[0, 1])
ORDER BY stream;
COMMIT;
SELECT stream, version, type FROM es_read_category('Tx');
