-- The views of the log.

CREATE EXTENSION eventstore;

-- Nothing there yet.
SELECT count(*) FROM eventstore.events;
SELECT count(*) FROM eventstore.streams;
SELECT count(*) FROM eventstore.event_types;
SELECT count(*) FROM eventstore.blockers;
SELECT preloaded, standby, head = handed_out AS "caught up", sealed, epoch = es_epoch() AS "same epoch" FROM eventstore.status;

SELECT version
FROM es_append_events('Order-1', '[
    {"type": "Placed", "data": {"customer": "Ada"}, "metadata": {"user": "web"}, "tags": ["a", "b"]},
    {"type": "Paid", "schema_version": 2}]');
SELECT version FROM es_append('Order-2', 'Placed');
SELECT version FROM es_append('11111111-2222-3333-4444-555555555555', 'Placed', schema_version => 2);
SELECT version FROM es_append('🚀 "x"', 'it''s');

-- events: the log as one table, for questions.  Its columns are those of es_event.
SELECT stream, version, type, schema_version, data, metadata, tags FROM eventstore.events ORDER BY position;
SELECT count(*) AS "other than read"
FROM es_read_all() e
FULL JOIN eventstore.events v USING (position)
WHERE (e.stream, e.version, e.type, e.schema_version, e.data, e.event_id, e.created_at)
        IS DISTINCT FROM (v.stream, v.version, v.type, v.schema_version, v.data, v.event_id, v.created_at)
    OR e.metadata IS DISTINCT FROM v.metadata OR e.tags IS DISTINCT FROM v.tags;
SELECT array_agg(attname ORDER BY attnum) = (
        SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'es_event'::regclass AND attnum > 0) AS "columns of es_event"
FROM pg_attribute
WHERE attrelid = 'eventstore.events'::regclass AND attnum > 0;
SELECT type, count(*) FROM eventstore.events GROUP BY type ORDER BY type COLLATE "C";

-- streams and event_types: what there is.
SELECT stream, category, version FROM eventstore.streams ORDER BY stream COLLATE "C";
SELECT s.stream
FROM eventstore.streams s
JOIN eventstore.events e USING (stream, version)
WHERE s.last_event_at = e.created_at
ORDER BY s.stream COLLATE "C";
SELECT category, type, schema_version FROM eventstore.event_types
ORDER BY category COLLATE "C", type COLLATE "C", schema_version;

-- A type that is first used in a transaction that rolls back, and again.
BEGIN;
SELECT version FROM es_append('Order-3', 'NewType');
SELECT type FROM eventstore.event_types WHERE type = 'NewType';
ROLLBACK;
SELECT type FROM eventstore.event_types WHERE type = 'NewType';
SELECT version FROM es_append('Order-3', 'NewType');
SELECT type FROM eventstore.event_types WHERE type = 'NewType';
SELECT type FROM eventstore.events WHERE stream = 'Order-3';

-- What the snapshot sees, one's own uncommitted events included.
BEGIN;
SELECT version FROM es_append('Order-4', 'Placed');
SELECT count(*) FROM eventstore.events WHERE stream = 'Order-4';
SELECT version FROM eventstore.streams WHERE stream = 'Order-4';

-- blockers: whose transactions hold the head back.
SELECT pid = pg_backend_pid() AS me, since = now() AS "since its begin", query ~ 'blockers' AS "this query", usename = current_user AS "as me"
FROM eventstore.blockers;
SELECT holds_head_below > head AS below FROM eventstore.blockers, eventstore.status;
COMMIT;
SELECT count(*) FROM eventstore.blockers;

-- One that reads holds back nothing; nor does one that failed to append.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM es_read_all();
SELECT count(*) FROM eventstore.blockers;
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT version FROM es_append('Order-1', 'Paid', expected_version => 7);
ROLLBACK TO s;
SELECT count(*) FROM eventstore.blockers;
ROLLBACK;

-- One that has appended holds it back until its end, whatever a savepoint took back.
BEGIN;
SAVEPOINT s;
SELECT version FROM es_append('Order-1', 'Paid');
ROLLBACK TO s;
SELECT count(*) FROM eventstore.blockers;
ROLLBACK;
SELECT count(*) FROM eventstore.blockers;

-- status: one row.
SELECT count(*) FROM eventstore.status;
SELECT preloaded, standby, sealed, head = es_head() AS "own head", handed_out >= head AS "handed out", epoch = es_epoch() AS "same epoch",
    version = (SELECT extversion FROM pg_extension WHERE extname = 'eventstore') AS "own version",
    library_version = version AS "same library", format
FROM eventstore.status;

-- The head is recorded for standbys, soon.
DO $$
BEGIN
    FOR i IN 1 .. 3000 LOOP
        EXIT WHEN (SELECT recorded_head = head FROM eventstore.status);
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT recorded_head = head AS recorded, recorded_at <= clock_timestamp() AS "in the past" FROM eventstore.status;

-- Those who watch the server may look at status and blockers, not at the events.
CREATE ROLE regress_watcher;
GRANT pg_monitor TO regress_watcher;
SET ROLE regress_watcher;
SELECT preloaded, head >= 0 AS "has a head" FROM eventstore.status;
SELECT count(*) FROM eventstore.blockers;
SELECT count(*) FROM eventstore.events;
\echo :SQLSTATE
SELECT count(*) FROM eventstore.streams;
\echo :SQLSTATE
RESET ROLE;
DROP ROLE regress_watcher;

-- The views are no way into the log.
CREATE FUNCTION refused(statement text) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE statement;
    RETURN false;
EXCEPTION
    WHEN OTHERS THEN
        RETURN true;
END $$;
SELECT statement, refused(statement)
FROM unnest(ARRAY[
    'INSERT INTO eventstore.events (stream, type) VALUES (''Order-1'', ''Forged'')',
    'UPDATE eventstore.events SET data = ''{}''',
    'DELETE FROM eventstore.events',
    'UPDATE eventstore.streams SET version = 9',
    'UPDATE eventstore.streams SET stream = ''Order-9''',
    'DELETE FROM eventstore.streams',
    'DELETE FROM eventstore.event_types',
    'UPDATE eventstore.status SET head = 0']) statement;
