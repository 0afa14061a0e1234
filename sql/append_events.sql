-- Appending the events of a JSON array to one stream.

CREATE EXTENSION eventstore;

-- All or none, in the order of the array.  The answer is that of the last.
SELECT version, duplicate
FROM es_append_events('Order-1', '[
    {"type": "OrderPlaced", "data": {"customer": "Ada"}},
    {"type": "ItemAdded", "data": {"item": "book"}, "metadata": {"user": "web"}},
    {"type": "ItemAdded", "data": {"item": "pen"}, "tags": ["item:pen", "shop:3"], "schema_version": 2},
    {"type": "OrderPaid"}]');
SELECT version, type, schema_version, data, metadata, tags
FROM es_read_stream('Order-1');
SELECT count(*), count(DISTINCT position),
    array_agg(version ORDER BY position) AS "in order",
    bool_and(position <= es_head()) AS readable
FROM es_read_stream('Order-1');

-- "position" is that of the last event, too.
SELECT * FROM es_append_events('Order-1', '[{"type": "A"}, {"type": "B"}, {"type": "C"}]') \gset
SELECT version - :version AS version, position - :position AS position
FROM es_read_stream('Order-1', backwards => true, max_count => 1);

-- The expected version is that before the first of them.
SELECT version FROM es_append_events('Order-2', '[{"type": "A"}, {"type": "B"}]', 0);
SELECT version FROM es_append_events('Order-2', '[{"type": "C"}, {"type": "D"}]', 2);
SELECT version FROM es_append_events('Order-2', '[{"type": "E"}, {"type": "F"}]', 2);
\echo :SQLSTATE
SELECT version FROM es_append_events('Order-2', '[{"type": "E"}, {"type": "F"}]', -4);
SELECT version FROM es_append_events('Order-3', '[{"type": "E"}, {"type": "F"}]', -4);
\echo :SQLSTATE
SELECT version FROM es_append_events('Order-3', '[{"type": "E"}, {"type": "F"}]', -1);
\echo :SQLSTATE

-- Of no events there is none that the answer could be of.
SELECT * FROM es_append_events('Order-4', '[]');
SELECT es_stream_version('Order-4');
SELECT * FROM es_append_events('Order-4', '[]', 1);
\echo :SQLSTATE

-- JSON null stands for what was left out, except in data, where it is a value
-- like any other.
SELECT version
FROM es_append_events('Order-5', '[
    {"type": "A", "data": null, "metadata": null, "event_id": null, "tags": null, "schema_version": null},
    {"type": "B"}]');
SELECT version, type, schema_version, data, metadata, tags, event_id IS NOT NULL AS "has id"
FROM es_read_stream('Order-5');

-- Ids, for all.  They may be written in any way that a uuid can be.
SELECT version, duplicate
FROM es_append_events('Order-6', '[
    {"type": "A", "event_id": "0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e01"},
    {"type": "B", "event_id": "0B8A3A2E-6A58-4A5F-8F34-2D1A0F0C1E02"}]');
SELECT version, event_id FROM es_read_stream('Order-6');

-- eventstore.metadata goes onto each of them, below its own keys.
BEGIN;
SET LOCAL eventstore.metadata = '{"correlation_id": "request-1", "user": "web"}';
SELECT version
FROM es_append_events('Order-7', '[{"type": "A"}, {"type": "B", "metadata": {"user": "batch"}}]');
COMMIT;
SELECT version, metadata FROM es_read_stream('Order-7');

-- From a table, and untyped, as a driver sends it.
CREATE TABLE lines (n int, item text);
INSERT INTO lines VALUES (1, 'book'), (2, 'pen'), (3, '🚀 "x"');
SELECT version
FROM es_append_events('Order-8', (
    SELECT jsonb_agg(jsonb_build_object('type', 'ItemAdded', 'data', to_jsonb(l)) ORDER BY n) FROM lines l));
SELECT version, data FROM es_read_stream('Order-8');
PREPARE append AS SELECT version FROM es_append_events($1, $2, $3);
EXECUTE append('Order-8', '[{"type": "OrderPaid", "data": {"n": 1}}]', 3);
DEALLOCATE append;

-- If one of them cannot be stored, none is.
SELECT version FROM es_append_events('Order-9', '[{"type": "A"}, {"type": ""}, {"type": "C"}]');
\echo :SQLSTATE
SELECT version FROM es_append_events('Order-9', '[{"type": "A"}, {"type": "B", "date": {}}]');
\echo :SQLSTATE
SELECT version FROM es_append_events('Order-9', '[{"type": "A"}, {"data": {}}]');
\echo :SQLSTATE
SELECT es_stream_version('Order-9'), count(*) FROM eventstore.events WHERE stream = 'Order-9';

-- Ten thousand at once.
SELECT version
FROM es_append_events('Long-1', (
    SELECT jsonb_agg(jsonb_build_object('type', 'Turn' || i % 3, 'data', i) ORDER BY i) FROM generate_series(1, 10000) i));
SELECT count(*), min(version), max(version), bool_and(data = to_jsonb(version)) AS "in order",
    bool_and(type = 'Turn' || version % 3) AS "right type"
FROM es_read_stream('Long-1');
SELECT count(*), bool_and(data = to_jsonb(n)) AS "in order"
FROM es_read_category('Long', max_count => 20000) WITH ORDINALITY
    AS e (position, stream, version, type, schema_version, data, metadata, tags, event_id, created_at, content_type, payload, n);

-- Their ids differ; their times do not fall.
SELECT count(DISTINCT event_id) FROM es_read_stream('Long-1');
SELECT count(*) FILTER (WHERE created_at < before) AS "back in time"
FROM (SELECT created_at, lag(created_at) OVER (ORDER BY version) AS before FROM es_read_stream('Long-1')) e;
