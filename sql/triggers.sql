-- Users' own triggers, indexes and constraints on the log.

CREATE EXTENSION eventstore;

CREATE TABLE told (n int GENERATED ALWAYS AS IDENTITY, what text);

-- ---- row triggers ----

CREATE FUNCTION tell() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO told (what) VALUES (
        concat_ws(' ', TG_WHEN, TG_OP, TG_LEVEL, TG_ARGV[0], 'version', NEW.version, 'data', NEW.data));
    RETURN NEW;
END $$;
CREATE TRIGGER tell_before BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION tell('a');
CREATE TRIGGER tell_after AFTER INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION tell('b');
CREATE TRIGGER tell_some AFTER INSERT ON eventstore.event_log
    FOR EACH ROW WHEN (NEW.data ? 'loud') EXECUTE FUNCTION tell('c');

SELECT version FROM es_append('Order-1', 'Placed', '{"n": 1}');
SELECT version FROM es_append_events('Order-1', '[{"type": "Paid", "data": {"n": 2}}, {"type": "Shipped", "data": {"n": 3, "loud": true}}]');
SELECT count(*) FROM es_append_batch('{Order-2, Order-3}', '{Placed, Placed}', '{"{\"n\": 4}", "{\"n\": 5}"}');
SELECT what FROM told ORDER BY n;

-- What was not stored fires none of them.
TRUNCATE told;
SELECT version FROM es_append('Order-4', 'Placed', '{"n": 6}', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version, duplicate FROM es_append('Order-4', 'Placed', '{"n": 6}', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM es_append('Order-4', 'Paid', '{"n": 7}', expected_version => 9);
SELECT what FROM told ORDER BY n;

-- Disabled, or for replicas only.
TRUNCATE told;
ALTER TABLE eventstore.event_log DISABLE TRIGGER tell_before;
ALTER TABLE eventstore.event_log ENABLE REPLICA TRIGGER tell_after;
SELECT version FROM es_append('Order-4', 'Paid', '{"n": 8}');
SELECT what FROM told ORDER BY n;

DROP TRIGGER tell_before ON eventstore.event_log;
DROP TRIGGER tell_after ON eventstore.event_log;
DROP TRIGGER tell_some ON eventstore.event_log;

-- A trigger that reads sees the event that fired it.
CREATE FUNCTION look() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO told (what)
    SELECT concat_ws(' ', e.stream, e.version, e.type, es_stream_version(e.stream), r.type)
    FROM eventstore.events e
    LEFT JOIN LATERAL es_read_stream(e.stream, e.version) r ON true
    WHERE e.position = NEW.position;
    RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION look();
TRUNCATE told;
SELECT version FROM es_append('Order-5', 'NewType');
SELECT what FROM told ORDER BY n;
DROP TRIGGER look ON eventstore.event_log;


-- ---- statement triggers ----

CREATE FUNCTION sum_up() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO told (what) SELECT concat_ws(' ', TG_WHEN, TG_OP, TG_LEVEL, count(*), 'rows, sum', sum((data ->> 'n')::int)) FROM added;
    RETURN NULL;
END $$;
CREATE TRIGGER sum_up AFTER INSERT ON eventstore.event_log
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION sum_up();
TRUNCATE told;
SELECT version FROM es_append('Sum-1', 'A', '{"n": 1}');
SELECT version FROM es_append_events('Sum-1', '[{"type": "B", "data": {"n": 2}}, {"type": "C", "data": {"n": 3}}]');
SELECT count(*) FROM es_append_batch('{Sum-2, Sum-1, Sum-2}', '{A, A, A}', '{"{\"n\": 4}", "{\"n\": 5}", "{\"n\": 6}"}');
SELECT a.version, b.version
FROM es_append('Sum-3', 'A', '{"n": 7}') a, LATERAL es_append('Sum-3', 'A', '{"n": 8}', a.version) b;
SELECT what FROM told ORDER BY n;
DROP TRIGGER sum_up ON eventstore.event_log;

-- Without a transition table, before and after.
CREATE FUNCTION note() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO told (what) VALUES (concat_ws(' ', TG_WHEN, TG_OP, TG_LEVEL, TG_RELID::regclass));
    RETURN NULL;
END $$;
CREATE TRIGGER note_before BEFORE INSERT ON eventstore.event_log FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER note_after AFTER INSERT ON eventstore.event_log FOR EACH STATEMENT EXECUTE FUNCTION note();
TRUNCATE told;
SELECT version FROM es_append_events('Sum-4', '[{"type": "A"}, {"type": "B"}]');
SELECT what FROM told ORDER BY n;
DROP TRIGGER note_before ON eventstore.event_log;
DROP TRIGGER note_after ON eventstore.event_log;


-- ---- triggers that change the event ----

-- Its contents, they may.
CREATE FUNCTION meddle() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    CASE TG_ARGV[0]
        WHEN 'data' THEN NEW.data := NEW.data - 'secret'; NEW.metadata := '{"cleaned": true}'; NEW.tags := ARRAY['clean'];
        WHEN 'position' THEN NEW.position := NEW.position + 1;
        WHEN 'stream_key' THEN NEW.stream_key := NEW.stream_key + 1;
        WHEN 'version' THEN NEW.version := NEW.version + 1;
        WHEN 'type_key' THEN NEW.type_key := NEW.type_key + 1;
        WHEN 'created_at' THEN NEW.created_at := NEW.created_at + '1 s'::interval;
        WHEN 'event_id' THEN NEW.event_id := gen_random_uuid();
        WHEN 'data, to null' THEN NEW.data := NULL;
        WHEN 'drop' THEN RETURN NULL;
        WHEN 'drop second' THEN IF NEW.data ->> 'n' = '2' THEN RETURN NULL; END IF;
        WHEN 'fail' THEN RAISE EXCEPTION 'not today' USING ERRCODE = 'P0042';
    END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION meddle('data');
SELECT version FROM es_append('Clean-1', 'A', '{"n": 1, "secret": "x"}');
SELECT version FROM es_append_events('Clean-1', '[{"type": "B", "data": {"secret": "y"}}, {"type": "C"}]');
SELECT version, type, data, metadata, tags FROM es_read_stream('Clean-1');
DROP TRIGGER meddle ON eventstore.event_log;

-- Its place, its time and its id, they may not; nor can they make it vanish.  Whatever they
-- do wrong, nothing is stored.
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
CREATE FUNCTION outcome_with(what text, statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('CREATE TRIGGER meddle BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION meddle(%L)', what);
    answer := outcome(statement);
    DROP TRIGGER meddle ON eventstore.event_log;
    RETURN answer;
END $$;
SELECT what, outcome_with(what, $$SELECT version FROM es_append('Clean-1', 'D', '{"n": 1}')$$)
FROM unnest('{position, stream_key, version, type_key, created_at, event_id, "data, to null", drop, fail}'::text[]) what;
SELECT what, outcome_with(what, $$SELECT version FROM es_append_events('Clean-1', '[{"type": "D"}, {"type": "E", "data": {"n": 2}}]')$$)
FROM unnest('{position, version, drop, drop second}'::text[]) what;
SELECT count(*), es_stream_version('Clean-1') FROM es_read_stream('Clean-1');
SELECT version FROM es_append('Clean-1', 'F', expected_version => 3);

-- Also if their name comes before that of the guard.
CREATE TRIGGER aaa BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION meddle('drop');
SELECT version FROM es_append('Clean-1', 'G');
\echo :SQLSTATE
DROP TRIGGER aaa ON eventstore.event_log;


-- ---- deferred triggers ----

CREATE FUNCTION balance() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF (SELECT sum((data ->> 'amount')::numeric) FROM eventstore.events WHERE type = 'Booked') <> 0 THEN
        RAISE EXCEPTION 'not balanced' USING ERRCODE = 'P0042';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER balance AFTER INSERT ON eventstore.event_log
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION balance();
BEGIN;
SELECT version FROM es_append('Book-1', 'Booked', '{"amount": 5}');
SELECT version FROM es_append('Book-2', 'Booked', '{"amount": -5}');
COMMIT;
BEGIN;
SELECT version FROM es_append('Book-1', 'Booked', '{"amount": 7}');
COMMIT;
\echo :SQLSTATE
BEGIN;
SELECT version FROM es_append('Book-1', 'Booked', '{"amount": 7}');
SET CONSTRAINTS ALL IMMEDIATE;
\echo :SQLSTATE
ROLLBACK;
SELECT stream, version FROM es_read_category('Book');
DROP TRIGGER balance ON eventstore.event_log;


-- ---- triggers that append ----

-- Each order gets an entry in the journal; an entry gets none.
CREATE FUNCTION journal() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    e eventstore.events;
BEGIN
    SELECT * INTO e FROM eventstore.events WHERE position = NEW.position;
    IF e.stream LIKE 'Sale-%' AND e.data ? 'n' THEN
        PERFORM es_append('Journal', 'Noted', jsonb_build_object('of', e.stream, 'version', e.version));
        PERFORM es_append(e.stream, 'Checked');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER journal AFTER INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION journal();
SELECT version FROM es_append('Sale-1', 'A', '{"n": 1}');
SELECT version FROM es_append_events('Sale-2', '[{"type": "A", "data": {"n": 2}}, {"type": "B", "data": {"n": 3}}]');
SELECT stream, version FROM es_append_batch('{Sale-3, Sale-1}', '{A, B}', '{"{\"n\": 4}", "{\"n\": 5}"}') ORDER BY stream;
SELECT version, type FROM es_read_stream('Sale-1');
SELECT version, type FROM es_read_stream('Sale-2');
SELECT version, data FROM es_read_stream('Journal');
DROP TRIGGER journal ON eventstore.event_log;

-- Before the row, the stream is already taken: a trigger that appends to it then is
-- served or refused, but does no harm.
CREATE FUNCTION push_in() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.data ? 'n' THEN
        PERFORM es_append('Push-1', 'Inner');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER push_in BEFORE INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION push_in();
SELECT outcome($$SELECT version FROM es_append('Push-1', 'Outer', '{"n": 1}')$$) ~ '^(ok|55000)' AS clear;
SELECT outcome($$SELECT version FROM es_append_events('Push-1', '[{"type": "Outer", "data": {"n": 2}}, {"type": "Outer", "data": {"n": 3}}]')$$) ~ '^(ok|55000)' AS clear;
SELECT version FROM es_append('Push-2', 'Outer', '{"n": 4}');
DROP TRIGGER push_in ON eventstore.event_log;
SELECT count(*) FROM es_append('Push-1', 'Last');
SELECT count(*) = es_stream_version('Push-1') AS "no gaps",
    array_agg(version ORDER BY position) = array_agg(version ORDER BY version) AS "in order"
FROM es_read_stream('Push-1');

-- One without an end is ended.
CREATE FUNCTION for_ever() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_append('Loop-1', 'Turn');
    RETURN NULL;
END $$;
CREATE TRIGGER for_ever AFTER INSERT ON eventstore.event_log
    FOR EACH ROW EXECUTE FUNCTION for_ever();
SELECT left(outcome($$SELECT version FROM es_append('Loop-1', 'Turn')$$), 5);
DROP TRIGGER for_ever ON eventstore.event_log;
SELECT es_stream_version('Loop-1');
SELECT version FROM es_append('Loop-1', 'Turn');


-- ---- indexes ----

CREATE INDEX by_customer ON eventstore.event_log ((data ->> 'customer'));
CREATE INDEX by_tags ON eventstore.event_log USING gin (tags);
CREATE INDEX by_time ON eventstore.event_log USING brin (created_at);
CREATE INDEX loud_ones ON eventstore.event_log (position) WHERE data ? 'loud';
CREATE UNIQUE INDEX one_name ON eventstore.event_log ((data ->> 'name')) WHERE data ? 'name';
SELECT count(*) FROM generate_series(1, 100) i,
    LATERAL es_append('Index-' || i, 'A', jsonb_build_object('customer', 'c' || i % 10), tags => ARRAY['t' || i % 20]);
SELECT version FROM es_append('Index-1', 'B', '{"loud": true, "customer": "c3"}', tags => ARRAY['t7', 'x']);
SELECT count(*) FROM es_append_batch('{Index-2, Index-3}', '{B, B}', '{"{\"customer\": \"c3\"}", "{\"customer\": \"c4\"}"}', tags => '{NULL, "[\"t7\"]"}');
ANALYZE eventstore.event_log;
BEGIN;
SET LOCAL enable_seqscan = off;
SELECT count(*) FROM eventstore.event_log WHERE data ->> 'customer' = 'c3';
SELECT count(*) FROM eventstore.event_log WHERE tags @> ARRAY['t7'];
SELECT data FROM eventstore.event_log WHERE data ? 'loud' AND position > 0;
COMMIT;

-- A unique index is a promise across streams: it holds, and leaves nothing behind.
SELECT version FROM es_append('User-1', 'Registered', '{"name": "ada"}');
SELECT version FROM es_append('User-2', 'Registered', '{"name": "ada"}');
\echo :SQLSTATE
SELECT version FROM es_append_events('User-3', '[{"type": "Registered", "data": {"name": "grace"}}, {"type": "Registered", "data": {"name": "grace"}}]');
\echo :SQLSTATE
SELECT version FROM es_append('User-2', 'Registered', '{"name": "grace"}', 0);
SELECT stream, version, data FROM es_read_category('User');

-- An expression that fails is the appender's error.
CREATE INDEX by_weight ON eventstore.event_log (((data ->> 'weight')::numeric));
SELECT version FROM es_append('Index-1', 'C', '{"weight": "heavy"}');
\echo :SQLSTATE
SELECT version FROM es_append('Index-1', 'C', '{"weight": 12}', 2);
DROP INDEX eventstore.by_customer, eventstore.by_tags, eventstore.by_time, eventstore.loud_ones, eventstore.one_name, eventstore.by_weight;


-- ---- constraints ----

ALTER TABLE eventstore.event_log ADD CONSTRAINT small CHECK (data ->> 'n' IS NULL OR (data ->> 'n')::int < 100);
SELECT version FROM es_append('Check-1', 'A', '{"n": 99}');
\set VERBOSITY terse
SELECT version FROM es_append('Check-1', 'B', '{"n": 100}');
\echo :SQLSTATE
SELECT version FROM es_append_events('Check-1', '[{"type": "C"}, {"type": "D", "data": {"n": 101}}]');
\echo :SQLSTATE
SELECT count(*) FROM es_append_batch('{Check-2, Check-1}', '{E, E}', '{"{}", "{\"n\": 102}"}');
\echo :SQLSTATE
\set VERBOSITY default
SELECT stream, version, type FROM es_read_category('Check');
ALTER TABLE eventstore.event_log DROP CONSTRAINT small;

-- A read model that refers to the log.
CREATE TABLE placed (
    position bigint NOT NULL REFERENCES eventstore.event_log (position),
    late bigint NOT NULL REFERENCES eventstore.event_log (position) DEFERRABLE INITIALLY DEFERRED
);
SELECT version FROM es_append('Ref-1', 'A', event_id => '00000000-0000-4000-8000-000000000009');
INSERT INTO placed SELECT position, position FROM es_read_stream('Ref-1');
INSERT INTO placed SELECT 9223372036854775807, position FROM es_read_stream('Ref-1');
\echo :SQLSTATE
BEGIN;
INSERT INTO placed SELECT position, position + 1 FROM es_read_stream('Ref-1');
SELECT version FROM es_append('Ref-1', 'B', event_id => '00000000-0000-4000-8000-000000000010');
COMMIT;
SELECT count(*) FROM placed;
DROP TABLE placed;


-- A trigger can be used to project: the read model is up to date with the log.
CREATE TABLE customer (stream text PRIMARY KEY, name text, version bigint);
CREATE FUNCTION project() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO customer
    SELECT e.stream, a.data ->> 'name', a.version
    FROM added a
    JOIN eventstore.events e USING (position)
    WHERE e.type = 'Renamed'
    ON CONFLICT (stream) DO UPDATE SET name = EXCLUDED.name, version = EXCLUDED.version;
    RETURN NULL;
END $$;
CREATE TRIGGER project AFTER INSERT ON eventstore.event_log
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION project();
SELECT version FROM es_append('Customer-1', 'Renamed', '{"name": "Ada"}');
SELECT version FROM es_append('Customer-1', 'Renamed', '{"name": "Grace"}');
SELECT version FROM es_append('Customer-2', 'Greeted', '{"name": "Alan"}');
BEGIN;
SELECT version FROM es_append('Customer-2', 'Renamed', '{"name": "Alan"}');
SELECT * FROM customer ORDER BY stream;
ROLLBACK;
SELECT * FROM customer ORDER BY stream;
