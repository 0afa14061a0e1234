-- What administrators do to tables, the log survives.

CREATE EXTENSION eventstore;

SELECT count(*)
FROM generate_series(1, 2000) i,
    LATERAL es_append('Order-' || i % 50, 'Turn' || i % 3, jsonb_build_object('n', i, 'text', repeat('x', i % 100)),
        metadata => CASE WHEN i % 10 = 0 THEN '{"correlation_id": "c"}'::jsonb END);
SELECT es_head() AS head, es_epoch() AS epoch \gset

-- What there is to read, in each way of reading, in its order.
CREATE VIEW state AS
SELECT 'all' AS way, md5(string_agg(e::text, ' ' ORDER BY ordinality)) AS sum FROM es_read_all(max_count => 10000) WITH ORDINALITY e
UNION ALL
SELECT 'backwards', md5(string_agg(e::text, ' ' ORDER BY ordinality)) FROM es_read_all(max_count => 10000, backwards => true) WITH ORDINALITY e
UNION ALL
SELECT 'category', md5(string_agg(e::text, ' ' ORDER BY ordinality)) FROM es_read_category('Order', max_count => 10000) WITH ORDINALITY e
UNION ALL
SELECT 'types', md5(string_agg(e::text, ' ' ORDER BY ordinality)) FROM es_read_all(max_count => 10000, types => '{Turn1, Turn2}') WITH ORDINALITY e
UNION ALL
SELECT 'streams', md5(string_agg(e::text, ' ' ORDER BY s, ordinality)) FROM generate_series(0, 49) s, LATERAL es_read_stream('Order-' || s) WITH ORDINALITY e
UNION ALL
SELECT 'correlation', md5(string_agg(e::text, ' ' ORDER BY ordinality)) FROM es_read_correlation('c') WITH ORDINALITY e;
CREATE TABLE before AS SELECT * FROM state;

VACUUM (FREEZE, ANALYZE) eventstore.event_log, eventstore.stream, eventstore.event_type;
SELECT way FROM state JOIN before USING (way) WHERE state.sum IS DISTINCT FROM before.sum;
SELECT version FROM es_append('Order-0', 'Turn0', '{}', 40);

REINDEX SCHEMA eventstore;
REINDEX TABLE CONCURRENTLY eventstore.event_log;
REINDEX TABLE CONCURRENTLY eventstore.stream;
REINDEX TABLE CONCURRENTLY eventstore.event_type;
SELECT version FROM es_append('Order-0', 'Turn0', '{}', 41);

-- Rewritten, and in another physical order.
VACUUM FULL eventstore.event_log;
VACUUM FULL eventstore.stream;
VACUUM FULL eventstore.event_type;
SELECT version FROM es_append('Order-0', 'Turn0', '{}', 42);
CLUSTER eventstore.event_log USING event_log_stream;
CLUSTER eventstore.stream USING stream_name;
SELECT version FROM es_append('Order-0', 'NewType', '{}', 43);
SELECT version FROM es_append('New-0', 'NewType', '{}', 0);
CLUSTER eventstore.event_log USING event_log_position;

-- The four new ones of Order-0 apart, all is as it was.
SELECT b.way
FROM before b,
    LATERAL (SELECT md5(string_agg(e::text, ' ' ORDER BY ordinality)) AS sum
        FROM es_read_all(max_count => 2000) WITH ORDINALITY e) s
WHERE b.way = 'all' AND b.sum IS DISTINCT FROM s.sum;
SELECT stream, version, type FROM es_read_all(:head);
SELECT count(*) FROM es_read_category('Order', max_count => 10000);
SELECT count(*) FROM es_read_all(max_count => 10000, types => '{Turn1, Turn2}');
SELECT sum(n) FROM generate_series(0, 49) s, LATERAL (SELECT count(*) AS n FROM es_read_stream('Order-' || s)) c;
SELECT count(*) FROM es_read_correlation('c');
SELECT es_epoch() = :'epoch' AS "same history", es_head() - :head >= 5 AS "head went on";

-- Also inside a transaction that has appended.
BEGIN;
SELECT version FROM es_append('Order-0', 'Turn0', '{}', 44);
ANALYZE eventstore.event_log;
CLUSTER eventstore.event_log USING event_log_position;
SELECT version FROM es_append('Order-0', 'Turn0', '{}', 45);
REINDEX TABLE eventstore.stream;
SELECT version FROM es_append('Order-0', 'Turn0', '{}', 46);
COMMIT;
SELECT version, type FROM es_read_stream('Order-0', 44);

-- What a connection pool does between two clients.
BEGIN;
SET LOCAL eventstore.metadata = '{"user": "ada"}';
SELECT version FROM es_append('Order-1', 'Turn0');
COMMIT;
SET eventstore.metadata = '{"user": "grace"}';
DISCARD ALL;
SELECT version FROM es_append('Order-1', 'Turn0');
SELECT metadata FROM es_read_stream('Order-1', 41);

-- Settings of a role or a database hold in new sessions.
SELECT current_database() AS database \gset
ALTER DATABASE :"database" SET eventstore.metadata = '{"database": true}';
\c
SELECT version FROM es_append('Order-1', 'Turn0', metadata => '{"n": 1}');
SELECT metadata FROM es_read_stream('Order-1', 43);
ALTER DATABASE :"database" RESET eventstore.metadata;
