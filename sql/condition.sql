-- Appends on condition that nothing which matters was added meanwhile.

CREATE EXTENSION eventstore;

-- A course takes two students.  Who subscribes one reads what matters, decides, and appends on
-- condition that nothing was added since.
SELECT version FROM es_append('Course-1', 'CourseDefined', '{"places": 2}', tags => '{course:1}',
    condition => '{"query": [{"tags": ["course:1"], "types": ["CourseDefined"]}]}');
SELECT es_head() AS known \gset
SELECT type, tags FROM es_query('[{"tags": ["course:1"]}, {"tags": ["student:7"]}]');
SELECT version, duplicate FROM es_append('Enrolment-1', 'Subscribed', tags => '{course:1, student:7}',
    condition => format('{"query": [{"tags": ["course:1"]}, {"tags": ["student:7"]}], "after": %s}', :known)::jsonb);

-- Somebody else decided from the same state: too late.
SELECT * FROM es_append('Enrolment-2', 'Subscribed', tags => '{course:1, student:8}',
    condition => format('{"query": [{"tags": ["course:1"]}, {"tags": ["student:8"]}], "after": %s}', :known)::jsonb);
\echo :SQLSTATE

-- Query again, decide again, append again.  "after" may be the last position of the query.
SELECT max(position) AS known FROM es_query('[{"tags": ["course:1"]}, {"tags": ["student:8"]}]') \gset
SELECT version FROM es_append('Enrolment-2', 'Subscribed', tags => '{course:1, student:8}',
    condition => format('{"query": [{"tags": ["course:1"]}, {"tags": ["student:8"]}], "after": %s}', :known)::jsonb);

-- A call that fails has stored nothing, and has used up no position.
SELECT handed_out FROM eventstore.status \gset
SELECT * FROM es_append('Enrolment-3', 'Subscribed', condition => '{"query": [{}]}');
\echo :SQLSTATE
SELECT es_stream_version('Enrolment-3'), handed_out - :handed_out AS "used up" FROM eventstore.status;
SELECT count(*) AS streams FROM eventstore.streams;

-- ---- what matches ----

-- outcome(CONDITION): would an append be accepted?  It is taken back.  The conflict is told by the
-- event's place among all.
CREATE FUNCTION outcome(condition jsonb) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    told text;
BEGIN
    BEGIN
        PERFORM es_append('Tried-1', 'Tried', condition => condition);
        RAISE EXCEPTION USING ERRCODE = 'P0099';
    EXCEPTION
        WHEN SQLSTATE 'P0099' THEN
            RETURN 'accepted';
        WHEN SQLSTATE 'SE004' THEN
            GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL;
            RETURN 'SE004: event ' || (SELECT count(*) FROM eventstore.events
                    WHERE position <= substring(told FROM 'position: (\d+), type: ')::bigint) || ', ' || substring(told FROM 'type: .*');
        WHEN OTHERS THEN
            RETURN SQLSTATE || ': ' || SQLERRM;
    END;
END $$;
SELECT row_number() OVER (ORDER BY position) AS event, stream, type, tags FROM eventstore.events;

SELECT query, outcome(jsonb_build_object('query', query::jsonb))
FROM unnest(ARRAY['[{}]', '[{"tags": []}]', '[{"types": null, "tags": null}]', '[{"tags": ["course:1"]}]', '[{"tags": ["course:2"]}]',
    '[{"tags": ["student:8"]}]', '[{"tags": ["student:8", "course:1"]}]', '[{"tags": ["student:8", "student:8"]}]', '[{"tags": ["student:7", "student:8"]}]',
    '[{"types": ["Subscribed"]}]', '[{"types": ["Subscribed", "CourseDefined"]}]', '[{"types": ["Unheard"]}]', '[{"types": ["subscribed"]}]',
    '[{"types": ["Subscribed"], "tags": ["course:1"]}]', '[{"types": ["CourseDefined"], "tags": ["student:7"]}]', '[{"tags": ["course:2"]}, {"tags": ["student:8"]}]',
    '[{"tags": ["student:8"]}, {"tags": ["student:7"]}]', '[{"tags": ["x"]}, {"types": ["Subscribed"]}]', '[{"tags": ["x"]}, {"tags": ["x"]}, {"types": ["Y"]}]',
    '[{"tags": [""]}]', '[{"tags": ["course:1", ""]}]', '[{"types": [""]}]']) query;

-- After each event in turn.
SELECT place, outcome(jsonb_build_object('query', '[{"tags": ["course:1"], "types": ["Subscribed"]}]'::jsonb, 'after', position))
FROM (SELECT 0 AS place, 0 AS position UNION ALL SELECT row_number() OVER (ORDER BY position), position FROM eventstore.events) e;
SELECT outcome(format('{"query": [{}], "after": %s}', after)::jsonb)
FROM unnest(ARRAY['null', '0', '0.0', '3e0', es_head()::text, es_head() || '.00']) after;

-- ---- what is no condition ----

SELECT condition, outcome(condition::jsonb)
FROM unnest(ARRAY['{}', '[]', 'null', '"x"', '1', '[{}]', '{"after": 0}', '{"query": null}', '{"query": "x"}', '{"query": 1}', '{"query": {}}', '{"query": []}',
    '{"query": [1]}', '{"query": [{"tag": []}]}', '{"query": [{"types": []}]}', '{"query": [{}], "before": 1}', '{"query": [{}], "": 1}',
    '{"query": [{}], "after": "1"}', '{"query": [{}], "after": true}', '{"query": [{}], "after": [1]}', '{"query": [{}], "after": {}}', '{"query": [{}], "after": 1.5}',
    '{"query": [{}], "after": -1}', '{"query": [{}], "after": -0.5}', '{"query": [{}], "after": -1e30}', '{"query": [{}], "after": 1e30}',
    '{"query": [{}], "after": 9223372036854775808}', '{"query": [{"tags": ["x"]}], "after": 9223372036854775807}', '{"query": [{"tags": ["x"]}], "after": 1000000}']) condition;

-- The hints.
SELECT * FROM es_append('Tried-1', 'Tried', condition => '{"after": 1}');
SELECT * FROM es_append('Tried-1', 'Tried', condition => '{"query": []}');
SELECT * FROM es_append('Tried-1', 'Tried', condition => '{"query": [{"types": [], "tags": ["x"]}]}');
-- Some drivers return a bigint as a string.
SELECT * FROM es_append('Tried-1', 'Tried', condition => '{"query": [{"tags": ["x"]}], "after": "4711"}');
SELECT * FROM es_append('Tried-1', 'Tried', condition => '{"query": [{"tags": ["x"]}], "after": "last"}');
SELECT * FROM es_append('Tried-1', 'Tried', condition => '{"query": [{"tags": ["x"]}], "after": 1000000}');
\echo :SQLSTATE

-- SQL NULL is no condition.
SELECT version FROM es_append('Free-1', 'Happened', condition => NULL);
SELECT version FROM es_append_events('Free-1', '[{"type": "Happened"}]', condition => NULL);

-- ---- several events a call ----

-- The condition is looked at once, before any of them.
SELECT version FROM es_append_events('Name-ada', '[{"type": "NameTaken", "tags": ["name:ada"]}, {"type": "NameTaken", "tags": ["name:ada"]}]',
    condition => '{"query": [{"tags": ["name:ada"]}]}');
SELECT version FROM es_append_events('Name-ada', '[{"type": "NameTaken"}]', condition => '{"query": [{"tags": ["name:ada"]}]}');
\echo :SQLSTATE

-- No events: the condition is looked at all the same.
SELECT * FROM es_append_events('Name-bob', '[]', condition => '{"query": [{"tags": ["name:bob"]}]}');
SELECT * FROM es_append_events('Name-bob', '[]', condition => '{"query": [{"tags": ["name:ada"]}]}');
\echo :SQLSTATE
SELECT * FROM es_append_events('Name-bob', '[]', condition => '{"query": []}');
\echo :SQLSTATE
SELECT es_stream_version('Name-bob');

-- ---- with an expected version ----

SELECT version FROM es_append('Name-bob', 'NameTaken', expected_version => 0, tags => '{name:bob}', condition => '{"query": [{"tags": ["name:bob"]}]}');
SELECT version FROM es_append('Name-bob', 'NameTaken', expected_version => 0, condition => '{"query": [{"tags": ["name:bob"]}]}');
\echo :SQLSTATE
SELECT version FROM es_append('Name-bob', 'NameTaken', expected_version => 0, condition => '{"query": [{"tags": ["name:eve"]}]}');
\echo :SQLSTATE
SELECT version FROM es_append('Name-bob', 'NameTaken', expected_version => 1, condition => '{"query": [{"tags": ["name:bob"]}]}');
\echo :SQLSTATE
SELECT version FROM es_append('Name-bob', 'NameTaken', expected_version => 1, condition => '{"query": [{"tags": ["name:eve"]}]}');

-- A tombstoned stream, and other arguments that are wrong, come first.
SELECT es_tombstone_stream('Dead-1');
SELECT version FROM es_append('Dead-1', 'Happened', condition => '{"query": [{}]}');
\echo :SQLSTATE
SELECT version FROM es_append('Name-bob', '', condition => '{"query": [{}]}');
\echo :SQLSTATE

-- ---- a call that is repeated ----

-- The first answer, whatever the condition now says: its own event matches it.
SELECT version, position, duplicate FROM es_append('Name-cyd', 'NameTaken', tags => '{name:cyd}', event_id => '00000000-0000-4000-8000-000000000001',
    condition => '{"query": [{"tags": ["name:cyd"]}]}') \gset
SELECT version, position = :position AS same, duplicate FROM es_append('Name-cyd', 'NameTaken', tags => '{name:cyd}', event_id => '00000000-0000-4000-8000-000000000001',
    condition => '{"query": [{"tags": ["name:cyd"]}]}');
SELECT version, position = :position AS same, duplicate FROM es_append('Name-cyd', 'NameTaken', event_id => '00000000-0000-4000-8000-000000000001',
    condition => '{"query": [{}], "after": 1000000}');
SELECT version, duplicate FROM es_append_events('Name-cyd', '[{"type": "NameTaken", "event_id": "00000000-0000-4000-8000-000000000001"}]',
    condition => '{"query": [{}]}');

-- Not so: an id that belongs to another event, and a condition that is none.
SELECT * FROM es_append('Name-cyd', 'NameGiven', event_id => '00000000-0000-4000-8000-000000000001', condition => '{"query": [{}]}');
\echo :SQLSTATE
SELECT * FROM es_append('Name-cyd', 'NameTaken', event_id => '00000000-0000-4000-8000-000000000001', condition => '{"query": []}');
\echo :SQLSTATE

-- ---- one's own transaction ----

-- Earlier appends count, in the same statement, too.
BEGIN;
SELECT position AS own FROM es_append('Own-1', 'Happened', tags => '{own}', condition => '{"query": [{"tags": ["own"]}]}') \gset
SAVEPOINT s;
SELECT * FROM es_append('Own-1', 'Happened', tags => '{own}', condition => '{"query": [{"tags": ["own"]}]}');
\echo :SQLSTATE
ROLLBACK TO s;
SELECT version FROM es_append('Own-1', 'Happened', tags => '{own}', condition => jsonb_build_object('query', '[{"tags": ["own"]}]'::jsonb, 'after', :own));
COMMIT;
SELECT n, a.version FROM generate_series(1, 2) n, LATERAL es_append('Own-2', 'Happened', tags => ARRAY['twice'], condition => jsonb_build_object('query', '[{"tags": ["twice"]}]'::jsonb, 'after', n * 0)) a;
\echo :SQLSTATE
SELECT n, a.version FROM generate_series(1, 2) n, LATERAL es_append('Own-2', 'Happened', tags => ARRAY['once:' || n], condition => format('{"query": [{"tags": ["once:%s"]}]}', n)::jsonb) a;

-- Those of a savepoint that was rolled back do not; those of one that was released do.
BEGIN;
SAVEPOINT s;
SELECT version FROM es_append('Own-3', 'Happened', tags => '{saved}');
ROLLBACK TO s;
SELECT version FROM es_append('Own-3', 'Happened', tags => '{saved}', condition => '{"query": [{"tags": ["saved"]}, {"types": ["Unheard"]}]}');
SAVEPOINT t;
SELECT version FROM es_append('Own-3', 'Happened', tags => '{released}');
RELEASE t;
SELECT version FROM es_append('Own-3', 'Happened', tags => '{saved}', condition => '{"query": [{"tags": ["released"]}]}');
\echo :SQLSTATE
ROLLBACK;

-- A refusal that is caught leaves the transaction as it was.
DO $$
BEGIN
    PERFORM es_append('Own-4', 'Happened', tags => '{caught}');
    BEGIN
        PERFORM es_append('Own-4', 'Happened', condition => '{"query": [{"tags": ["caught"]}]}');
    EXCEPTION
        WHEN SQLSTATE 'SE004' THEN
            PERFORM es_append('Own-4', 'Refused', condition => '{"query": [{"tags": ["uncaught"]}]}');
    END;
END $$;
SELECT version, type FROM es_read_stream('Own-4');

-- REPEATABLE READ and above.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT version FROM es_append('Own-5', 'Happened', tags => '{rr}', condition => '{"query": [{"tags": ["rr"]}]}');
SELECT version FROM es_append('Own-5', 'Happened', tags => '{rr}', condition => '{"query": [{"tags": ["rr"]}]}');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version FROM es_append('Own-5', 'Happened', tags => '{rr}', condition => '{"query": [{"tags": ["rr"]}, {}], "after": 2}');
\echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM es_query('[{"tags": ["rr"]}]');
SELECT version FROM es_append('Own-5', 'Happened', tags => '{rr}', condition => '{"query": [{"tags": ["rr"]}]}');
COMMIT;
SELECT outcome('{"query": [{"tags": ["rr"]}]}') LIKE 'SE004%' AS refused;

-- Where nothing may be written.
BEGIN READ ONLY;
SELECT version FROM es_append('Own-5', 'Happened', condition => '{"query": [{"tags": ["x"]}]}');
\echo :SQLSTATE
ROLLBACK;

-- ---- types as they are stored, and as upcasters show them ----

CREATE FUNCTION renamed(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
SELECT version FROM es_append('Order-1', 'OrderCreated', tags => '{order:1}');
SELECT outcome('{"query": [{"types": ["OrderPlaced"], "tags": ["order:1"]}]}');
SELECT es_register_upcaster('OrderCreated', 1, 'renamed', 'OrderPlaced', 1);
SELECT query, outcome(jsonb_build_object('query', query::jsonb)) LIKE 'SE004: %, type: OrderCreated' AS refused
FROM unnest(ARRAY['[{"types": ["OrderPlaced"], "tags": ["order:1"]}]', '[{"types": ["OrderPlaced"]}]', '[{"types": ["OrderCreated"], "tags": ["order:1"]}]',
    '[{"types": ["OrderCreated"]}]', '[{"types": ["OrderShipped"], "tags": ["order:1"]}]']) query;

-- ---- what has been taken away counts no more ----

SELECT es_append('Gone-1', 'Went', tags => '{gone}'), es_append('Gone-1', 'Went', tags => '{gone}'), es_append('Gone-2', 'Went', tags => '{gone:2}') \g /dev/null
SELECT es_truncate_stream('Gone-1', 2);
SELECT outcome('{"query": [{"tags": ["gone"]}]}') LIKE 'SE004%' AS refused;
SELECT es_delete_stream('Gone-1');
SELECT outcome('{"query": [{"tags": ["gone"]}]}'), outcome('{"query": [{"types": ["Went"]}]}') LIKE 'SE004%' AS "another one does";
SELECT es_set_retention('Gone-2', max_age => '1 us');
SELECT outcome('{"query": [{"tags": ["gone:2"]}]}'), outcome('{"query": [{"types": ["Went"]}]}');
SELECT es_scavenge() > 0 \g /dev/null
SELECT outcome('{"query": [{"tags": ["gone"]}]}'), outcome('{"query": [{"tags": ["gone:2"]}]}'), outcome('{"query": [{"types": ["Went"]}]}');
BEGIN;
SELECT version FROM es_append('Gone-3', 'Went', tags => '{gone:3}');
SELECT es_delete_stream('Gone-3');
SELECT version FROM es_append('Gone-3', 'Went', tags => '{gone:3}', condition => '{"query": [{"tags": ["gone:3"]}]}');
ROLLBACK;

-- ---- locks ----

-- Each tag of an appended event is locked, shared; one tag of each item, exclusively.  Twice the
-- same is one lock.  An item without tags, or more than 64 tags, lock out all other appends.
CREATE VIEW locked AS
SELECT (SELECT coalesce(string_agg(format('%s tags %s', n, mode), ', ' ORDER BY mode), 'no tags')
        FROM (SELECT mode, count(*) AS n FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' GROUP BY mode) t) AS tags,
    (SELECT string_agg(mode, ', ' ORDER BY mode) FROM pg_locks
        WHERE pid = pg_backend_pid() AND relation = 'eventstore.append_lock'::regclass) AS append_lock;

-- locks_of(CALL): what it locks.  The call is taken back.
CREATE FUNCTION locks_of(call text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    told text;
BEGIN
    EXECUTE call;
    SELECT format('%s; %s', tags, append_lock) INTO told FROM locked;
    RAISE EXCEPTION USING ERRCODE = 'P0099';
EXCEPTION
    WHEN SQLSTATE 'P0099' THEN
        RETURN told;
END $$;
\pset format unaligned
\pset tuples_only on
SELECT format('SELECT locks_of(%L)', 'SELECT ' || call)
FROM unnest(ARRAY[
    $$es_append('Lock-1', 'T')$$,
    $$es_append('Lock-1', 'T', tags => '{}')$$,
    $$es_append('Lock-1', 'T', tags => '{a, b, a}')$$,
    $$es_append('Lock-1', 'T', condition => '{"query": [{"tags": ["x"]}]}')$$,
    $$es_append('Lock-1', 'T', condition => '{"query": [{"tags": ["x", "y", "z"]}, {"tags": ["z", "y", "x", "x"], "types": ["T"]}]}')$$,
    $$es_append('Lock-1', 'T', tags => '{a, b}', condition => '{"query": [{"tags": ["x"]}, {"tags": ["y"]}]}')$$,
    $$es_append('Lock-1', 'T', tags => '{a, b}', condition => '{"query": [{"tags": ["a"]}]}')$$,
    $$es_append('Lock-1', 'T', tags => '{a, b}', condition => '{"query": [{"types": ["X"]}]}')$$,
    $$es_append('Lock-1', 'T', tags => '{a, b}', condition => '{"query": [{"tags": ["x"]}, {"types": ["X"], "tags": []}]}')$$,
    $$es_append_events('Lock-1', '[{"type": "T", "tags": ["a", "b"]}, {"type": "T"}, {"type": "T", "tags": ["c", "a"]}]', condition => '{"query": [{"tags": ["x"]}]}')$$,
    $$es_append_batch('{Lock-1, Lock-2, Lock-1}', '{T, T, T}', '{"{}", "{}", "{}"}', tags => '{"[\"a\", \"b\"]", null, "[\"c\", \"a\"]"}')$$,
    $$es_append('Lock-1', 'T', tags => (SELECT array_agg('n:' || n) FROM generate_series(1, 64) n))$$,
    $$es_append('Lock-1', 'T', tags => (SELECT array_agg('n:' || n) FROM generate_series(1, 65) n))$$,
    $$es_append('Lock-1', 'T', tags => (SELECT array_agg('n:' || n % 64) FROM generate_series(1, 1000) n))$$,
    $$es_append_events('Lock-1', (SELECT jsonb_agg('{"type": "T", "tags": ["a"]}'::jsonb) FROM generate_series(1, 1000)))$$,
    $$count(a) FROM generate_series(1, 1000) n, LATERAL es_append('Lock-1', 'T', tags => ARRAY['a', 'n:' || n % 10]) a$$,
    $$count(a) FROM generate_series(1, 1000) n, LATERAL es_append('Lock-1', 'T', tags => ARRAY['n:' || n]) a$$,
    $$es_append('Lock-1', 'T', condition => jsonb_build_object('query', (SELECT jsonb_agg(jsonb_build_object('tags', ARRAY['n:' || n])) FROM generate_series(1, 64) n)))$$,
    $$es_append('Lock-1', 'T', condition => jsonb_build_object('query', (SELECT jsonb_agg(jsonb_build_object('tags', ARRAY['n:' || n])) FROM generate_series(1, 65) n)))$$,
    $$es_append('Lock-1', 'T', condition => jsonb_build_object('query', jsonb_build_array(jsonb_build_object('tags', (SELECT array_agg('n:' || n) FROM generate_series(1, 100) n)))))$$,
    $$es_append_events('Lock-1', '[]', condition => '{"query": [{"tags": ["x"]}]}')$$,
    $$es_check_version('Lock-1', 0)$$]) call
\gexec
\pset format aligned
\pset tuples_only off

-- Tags that were locked before a savepoint, and again after it.
BEGIN;
SELECT count(a) FROM generate_series(1, 60) n, LATERAL es_append('Lock-1', 'T', tags => ARRAY['n:' || n]) a;
SAVEPOINT s;
SELECT count(a) FROM generate_series(1, 60) n, LATERAL es_append('Lock-1', 'T', tags => ARRAY['n:' || n]) a;
SELECT * FROM locked;
ROLLBACK TO s;
SELECT * FROM locked;
ROLLBACK;

-- All of them are given back at the end of the transaction, and by ROLLBACK TO.
BEGIN;
SELECT version FROM es_append('Lock-1', 'T', tags => '{a}');
SAVEPOINT s;
SELECT version FROM es_append('Lock-1', 'T', tags => '{b}', condition => '{"query": [{"types": ["X"]}]}');
SELECT * FROM locked;
ROLLBACK TO s;
SELECT * FROM locked;
COMMIT;
SELECT * FROM locked;

-- SQL's own advisory locks of the same number are others.
BEGIN;
SELECT version FROM es_append('Lock-1', 'T', tags => '{a}');
SELECT pg_try_advisory_lock((SELECT classid::bigint << 32 | objid::bigint FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'));
SELECT * FROM locked;
SELECT pg_advisory_unlock_all();
SELECT * FROM locked;
COMMIT;

-- ---- inline projections ----

-- What a condition refuses they never see; what it accepts, once.  They may themselves append on condition.
CREATE TABLE taken (name text PRIMARY KEY, n int);
CREATE FUNCTION take(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO taken VALUES (event.data->>'name', 1) ON CONFLICT (name) DO UPDATE SET n = taken.n + 1;
    PERFORM es_append('Greeting-' || (event.data->>'name'), 'Greeted', tags => ARRAY['greeting'],
        condition => CASE WHEN event.data ? 'quiet' THEN '{"query": [{"tags": ["greeting"]}]}'::jsonb END);
END $$;
SELECT es_create_projection('taken', 'take', mode => 'inline', types => '{Signed}');
SELECT version FROM es_append('User-1', 'Signed', '{"name": "ada", "quiet": true}', tags => '{user:ada}', condition => '{"query": [{"tags": ["user:ada"]}]}');
SELECT version FROM es_append('User-2', 'Signed', '{"name": "ada"}', tags => '{user:ada}', condition => '{"query": [{"tags": ["user:ada"]}]}');
\echo :SQLSTATE
SELECT version FROM es_append('User-3', 'Signed', '{"name": "bob"}', tags => '{user:bob}', condition => '{"query": [{"tags": ["user:bob"]}]}');

-- The refusal of an event that the projection appends is the appender's error.
\set VERBOSITY default
SELECT version FROM es_append('User-4', 'Signed', '{"name": "cyd", "quiet": true}', tags => '{user:cyd}', condition => '{"query": [{"tags": ["user:cyd"]}]}') \g /dev/null
\echo :SQLSTATE
SELECT * FROM taken ORDER BY name;
SELECT stream, type FROM es_query('[{"tags": ["greeting"]}, {"types": ["Signed"]}]');
SELECT es_drop_projection('taken');

-- ---- triggers ----

-- Tags that a BEFORE trigger adds are the event's: they are found, and they are locked.
CREATE FUNCTION add_tag() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.tags := NEW.tags || ARRAY['added', 'n:' || NEW.data::text];
    RETURN NEW;
END $$;
CREATE TRIGGER add_tag BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION add_tag();
SELECT version FROM es_append('Trigger-1', 'T', '1', tags => '{own:1}');
SELECT version FROM es_append('Trigger-1', 'T', '2');
SELECT version, tags FROM es_query('[{"tags": ["added"]}]');
SELECT version, tags FROM es_query('[{"tags": ["n:1", "own:1"]}]');
SELECT outcome('{"query": [{"tags": ["n:2"]}]}') LIKE 'SE004%' AS refused;
SELECT locks_of($$SELECT es_append('Trigger-1', 'T', '3')$$);

-- Of any number of events, without filling the table of locks.
SELECT locks_of($$SELECT count(*) FROM es_append_batch(
    array_fill('Trigger-2'::text, ARRAY[20000]), array_fill('T'::text, ARRAY[20000]), (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 20000) n))$$);

-- They are held to the same rules.
CREATE OR REPLACE FUNCTION add_tag() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.tags := ARRAY(SELECT jsonb_array_elements_text(NEW.data));
    RETURN NEW;
END $$;
SELECT version FROM es_append('Trigger-3', 'T', '["a", null]');
\echo :SQLSTATE
SELECT version FROM es_append('Trigger-3', 'T', '["a", ""]');
\echo :SQLSTATE
SELECT version FROM es_append('Trigger-3', 'T', '["-a"]');
\echo :SQLSTATE
SELECT version FROM es_append('Trigger-3', 'T', to_jsonb(ARRAY[repeat('x', 256)]));
\echo :SQLSTATE
SELECT version FROM es_append('Trigger-3', 'T', '[]', tags => '{given}');
SELECT tags FROM es_read_stream('Trigger-3');
SELECT count(*) FROM es_query('[{"tags": ["given"]}]');
DROP TRIGGER add_tag ON eventstore.event_log;

-- A BEFORE trigger refuses the event: nothing is left, of its tags neither.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW WHEN (NEW.data = '"refuse"') EXECUTE FUNCTION refuse();
SELECT version FROM es_append('Trigger-4', 'T', '"refuse"', tags => '{refused}', condition => '{"query": [{"tags": ["refused"]}]}') \g /dev/null
\echo :SQLSTATE
SELECT version FROM es_append('Trigger-4', 'T', '"accept"', tags => '{refused}', condition => '{"query": [{"tags": ["refused"]}]}');

-- Every row of event_tag belongs to an event that bears the tag, and the other way round.
SELECT count(*) FILTER (WHERE has IS DISTINCT FROM wants) AS wrong
FROM (SELECT position, count(*) AS has FROM eventstore.event_tag GROUP BY position) h
FULL JOIN (SELECT position, (SELECT count(DISTINCT tag) FROM unnest(tags) tag) AS wants FROM eventstore.event_log WHERE cardinality(tags) > 0) w
    USING (position);

-- ---- decisions that rest on many events ----

-- A hall has 1,500 places.  Who wants one counts those that are taken, and appends on condition that
-- nothing was added since.  1,499 are.
CREATE FUNCTION take_place(visitor int) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    known bigint := es_head();
    places bigint := (SELECT count(*) FROM es_query('[{"types": ["PlaceTaken"], "tags": ["hall:1"]}]'));
BEGIN
    IF places >= 1500 THEN
        RETURN format('all %s are taken', places);
    END IF;
    PERFORM es_append('Visitor-' || visitor, 'PlaceTaken', tags => '{hall:1}',
        condition => jsonb_build_object('query', '[{"types": ["PlaceTaken"], "tags": ["hall:1"]}]'::jsonb, 'after', known));
    RETURN 'taken';
END $$;
SELECT count(*)
FROM (SELECT array_agg('Visitor-' || n) AS streams, array_agg('PlaceTaken'::text) AS types, array_agg('{}'::jsonb) AS data, array_agg('["hall:1"]'::jsonb) AS tags
    FROM generate_series(1, 1499) n) v, es_append_batch(streams, types, data, tags => v.tags);
SELECT take_place(1500);
SELECT take_place(1501);

-- "after" may be the last position of the query, if that was read to its end.  A page of it is no
-- basis: the events beyond the page fail the append.
SELECT max(position) AS last, count(*) FROM es_query('[{"tags": ["hall:1"]}]') \gset hall_
SELECT max(position) AS last FROM es_query('[{"tags": ["hall:1"]}]', max_count => 1000) \gset page_
SELECT version FROM es_append('Note-1', 'Noted', tags => '{hall:1}', condition => format('{"query": [{"tags": ["hall:1"]}], "after": %s}', :page_last)::jsonb);
\echo :SQLSTATE
SELECT :hall_count AS known, version FROM es_append('Note-1', 'Noted', tags => '{hall:1}', condition => format('{"query": [{"tags": ["hall:1"]}], "after": %s}', :hall_last)::jsonb);
