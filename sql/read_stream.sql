-- Reading a stream.

CREATE EXTENSION eventstore;

SELECT version
FROM es_append_events('Order-1', '[
    {"type": "OrderPlaced", "data": {"customer": "Ada"}, "metadata": {"user": "web"}, "tags": ["a"]},
    {"type": "ItemAdded", "data": {"item": "book"}},
    {"type": "ItemAdded", "data": {"item": "pen"}, "schema_version": 2},
    {"type": "OrderPaid"},
    {"type": "OrderShipped"}]');
SELECT version FROM es_append('Order-10', 'OrderPlaced');

-- All of it, in order; an event is a row of the type es_event.
SELECT stream, version, type, schema_version, data, metadata, tags FROM es_read_stream('Order-1');
SELECT pg_typeof(e) FROM es_read_stream('Order-1', max_count => 1) e;
SELECT version, es_stream_version('Order-1') FROM es_read_stream('Order-1') e ORDER BY position DESC LIMIT 1;

-- As a whole it can be passed on.
CREATE FUNCTION says(event es_event) RETURNS text
    LANGUAGE sql
    AS $$ SELECT event.stream || '@' || event.version || ': ' || event.type $$;
SELECT says(e) FROM es_read_stream('Order-1', max_count => 2) e;
SELECT e ->> 'type' AS type, e -> 'data' AS data FROM (SELECT to_jsonb(e) FROM es_read_stream('Order-1', 2, 1) e) j (e);

-- From a version on; at most so many.
SELECT version, type FROM es_read_stream('Order-1', 4);
SELECT version, type FROM es_read_stream('Order-1', 2, 2);
SELECT version, type FROM es_read_stream('Order-1', max_count => 1);
SELECT version, type FROM es_read_stream('Order-1', 1, 2147483647);
SELECT version, type FROM es_read_stream('Order-1', 6);
SELECT version, type FROM es_read_stream('Order-1', 9223372036854775807);

-- Backwards: the newest first, from the end, or those below a version.
SELECT version, type FROM es_read_stream('Order-1', backwards => true);
SELECT version, type FROM es_read_stream('Order-1', max_count => 1, backwards => true);
SELECT version, type FROM es_read_stream('Order-1', 4, backwards => true);
SELECT version, type FROM es_read_stream('Order-1', 4, 2, true);
SELECT version, type FROM es_read_stream('Order-1', 1, backwards => true);
SELECT version, type FROM es_read_stream('Order-1', 9223372036854775807, 1, true);

-- Some types only.  max_count counts what is returned.
SELECT version, type FROM es_read_stream('Order-1', types => ARRAY['ItemAdded']);
SELECT version, type FROM es_read_stream('Order-1', types => ARRAY['OrderShipped', 'OrderPlaced', 'OrderPlaced']);
SELECT version, type FROM es_read_stream('Order-1', 2, 2, types => ARRAY['OrderPaid', 'OrderPlaced', 'OrderShipped']);
SELECT version, type FROM es_read_stream('Order-1', 4, 1, true, ARRAY['ItemAdded']);
SELECT version, type FROM es_read_stream('Order-1', types => ARRAY['itemadded', 'Unknown']);
SELECT version, type FROM es_read_stream('Order-1', types => '{}');

-- A stream without events.
SELECT count(*), es_stream_version('Order-2') FROM es_read_stream('Order-2');
SELECT count(*) FROM es_read_stream('Order');

-- Paging forwards and backwards by the last version seen.
SELECT count(*) FROM generate_series(1, 25) i, LATERAL es_append('Page-1', 'Turn', to_jsonb(i));
WITH RECURSIVE page AS (
    SELECT 1 AS n, ARRAY(SELECT version FROM es_read_stream('Page-1', 1, 10)) AS versions
    UNION ALL
    SELECT n + 1, ARRAY(SELECT version FROM es_read_stream('Page-1', versions[10] + 1, 10)) FROM page WHERE cardinality(versions) = 10)
SELECT * FROM page;
WITH RECURSIVE page AS (
    SELECT 1 AS n, ARRAY(SELECT version FROM es_read_stream('Page-1', NULL, 10, true)) AS versions
    UNION ALL
    SELECT n + 1, ARRAY(SELECT version FROM es_read_stream('Page-1', versions[10], 10, true)) FROM page WHERE cardinality(versions) = 10)
SELECT * FROM page;

-- A read sees what the caller's snapshot sees, its own events too.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT es_stream_version('Order-1');
SELECT version FROM es_append('Order-1', 'OrderReturned');
SELECT version, type FROM es_read_stream('Order-1', backwards => true, max_count => 2);
SELECT es_stream_version('Order-1');
ROLLBACK;
SELECT es_stream_version('Order-1');

-- A cursor keeps the snapshot with which it was opened, and can be left early.
BEGIN;
DECLARE c CURSOR FOR SELECT version, type FROM es_read_stream('Order-1');
FETCH 2 FROM c;
SELECT version FROM es_append('Order-1', 'OrderReturned');
FETCH ALL FROM c;
CLOSE c;
SELECT max(version) FROM es_read_stream('Order-1');
ROLLBACK;
SELECT version, type FROM es_read_stream('Order-1') LIMIT 1;

-- It reads in any query, again and again.
SELECT s.stream, e.version, e.type
FROM (VALUES ('Order-10'), ('Order-1'), ('Order-2')) s (stream)
LEFT JOIN LATERAL es_read_stream(s.stream, max_count => 2) e ON true
ORDER BY s.stream COLLATE "C", e.version;
SELECT (es_read_stream('Order-1', 4)).type;
SELECT version FROM es_append('Order-' || 11, 'OrderPlaced');
PREPARE read AS SELECT version, type FROM es_read_stream($1, $2, $3, $4, $5);
EXECUTE read('Order-1', NULL, 1, true, NULL);
EXECUTE read('Order-1', 2, 1, false, '{OrderPaid}');
DEALLOCATE read;
