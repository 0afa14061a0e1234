-- Where a stream's row was seen last is remembered, and which version it had. Either may be wrong.

CREATE EXTENSION eventstore;

-- How often an index of eventstore.stream has been asked, in the first transaction of a session.
CREATE FUNCTION asked() RETURNS bigint
LANGUAGE sql
RETURN (SELECT coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables WHERE relid = 'eventstore.stream'::regclass);
CREATE FUNCTION place(stream text) RETURNS tid
LANGUAGE sql
BEGIN ATOMIC
    SELECT ctid FROM eventstore.stream WHERE name = place.stream;
END;

-- ---- what is seen once is not looked for again, by nobody ----

SELECT version FROM es_append('Order-1', 'Placed');
\c
BEGIN;
SELECT version FROM es_append('Order-1', 'Paid');
SELECT count(*) FROM es_read_stream('Order-1');
SELECT es_stream_version('Order-1');
SELECT asked();
-- what is not there is looked for
SELECT es_stream_version('Order-2');
SELECT asked();
COMMIT;

-- ---- a stream that was never there ----

BEGIN;
SELECT version FROM es_append('Order-2', 'Placed');
SELECT place('Order-2') \gset
ROLLBACK;
SELECT es_stream_version('Order-2');
SELECT count(*) FROM es_read_stream('Order-2');
-- its place goes to another one
VACUUM (INDEX_CLEANUP ON, DISABLE_PAGE_SKIPPING) eventstore.stream;
SELECT version FROM es_append('Order-3', 'Placed');
SELECT place('Order-3') = :'place' AS "at the same place";
SELECT es_stream_version('Order-2');
SELECT count(*) FROM es_read_stream('Order-2');
SELECT version FROM es_append('Order-2', 'Placed');
SELECT stream, version, type FROM eventstore.events WHERE stream ~ '[23]$' ORDER BY position;

-- without a vacuum, and in a savepoint
BEGIN;
SAVEPOINT s;
SELECT version FROM es_append('Order-4', 'Placed');
ROLLBACK TO s;
SELECT es_stream_version('Order-4');
SELECT version FROM es_append('Order-4', 'Placed');
COMMIT;
SELECT version FROM es_append('Order-4', 'Paid');

-- ---- so is the version that a stream had when it was asked for last ----

SELECT version FROM es_append_events('Count-1', '[{"type": "Counted"}, {"type": "Counted"}]');
BEGIN;
SELECT version FROM es_append_events('Count-1', '[{"type": "Counted"}, {"type": "Counted"}]');
SELECT es_stream_version('Count-1');
ROLLBACK;
SELECT es_stream_version('Count-1');
BEGIN;
SELECT version FROM es_append_events('Count-1', '[{"type": "Counted"}, {"type": "Counted"}]');
SELECT version FROM es_append('Count-1', 'Counted', expected_version => 4);
ROLLBACK;
SELECT version FROM es_append('Count-1', 'Counted', expected_version => 2);

-- ---- the end of the table has come nearer ----

BEGIN;
SELECT count(*) FROM generate_series(1, 2000) n, es_append('Draft-' || n, 'Drafted');
ROLLBACK;
VACUUM (INDEX_CLEANUP ON, DISABLE_PAGE_SKIPPING) eventstore.stream;
SELECT pg_relation_size('eventstore.stream') / current_setting('block_size')::int AS pages;
SELECT es_stream_version('Draft-2000');
SELECT version FROM es_append('Draft-2000', 'Drafted');
SELECT version FROM es_append('Draft-1', 'Drafted');

-- ---- the row has moved ----

SELECT count(*) FROM generate_series(1, 300) n, es_append('Move-' || n, 'Moved');
SELECT place('Move-1') AS place \gset
SELECT count(*) FROM generate_series(1, 300) n, es_truncate_stream('Move-' || n, 2);
SELECT place('Move-1') = :'place' AS "at the same place";
SELECT version FROM es_append('Move-1', 'Moved', expected_version => 1);
SELECT version FROM es_read_stream('Move-1');
VACUUM (INDEX_CLEANUP ON, DISABLE_PAGE_SKIPPING) eventstore.stream;
-- their old places are taken
SELECT count(*) FROM generate_series(1, 600) n, es_append('Later-' || n, 'Moved');
SELECT count(*) AS "somewhere else" FROM generate_series(1, 300) n, es_append('Move-' || n, 'Moved') a
WHERE a.version <> CASE n WHEN 1 THEN 3 ELSE 2 END;
SELECT count(*) AS "somewhere else" FROM generate_series(1, 600) n, es_append('Later-' || n, 'Moved') a
WHERE a.version <> 2;
SELECT es_tombstone_stream('Move-2');
SELECT version FROM es_append('Move-2', 'Moved');

-- ---- all rows have moved ----

SELECT array_agg(name || ' ' || es_stream_version(name) ORDER BY name) AS versions FROM eventstore.stream \gset
VACUUM FULL eventstore.stream;
SELECT array_agg(name || ' ' || es_stream_version(name) ORDER BY name) = :'versions' AS same FROM eventstore.stream;
CLUSTER eventstore.stream USING stream_name;
SELECT array_agg(name || ' ' || es_stream_version(name) ORDER BY name) = :'versions' AS same FROM eventstore.stream;
SELECT version FROM es_append('Order-1', 'Returned', expected_version => 2);
SELECT version FROM es_append('Later-600', 'Moved', expected_version => 2);

-- ---- the store is empty again, or another one ----

SET eventstore.allow_drop = on;
SELECT es_reset();
SELECT es_stream_version('Later-600');
SELECT version FROM es_append('Later-600', 'Moved');
SELECT version FROM es_append('Order-1', 'Placed');
DROP FUNCTION asked, place;
DROP EXTENSION eventstore;
CREATE EXTENSION eventstore;
SELECT es_stream_version('Order-1');
SELECT version FROM es_append('Later-600', 'Moved');
SELECT version FROM es_append('Order-1', 'Placed');
SELECT stream, version, type FROM es_read_all();
SELECT * FROM es_check();
