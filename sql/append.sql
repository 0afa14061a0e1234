-- Appending one event at a time.

CREATE EXTENSION eventstore;

-- An event needs a stream and a type.  The answer is its version, its place in
-- the stream, and its position, its place in the log.
SELECT version, duplicate FROM es_append('Order-1', 'OrderPlaced');
SELECT version, duplicate FROM es_append('Order-1', 'OrderPaid', '{"amount": 12.50}');
SELECT version, duplicate FROM es_append('Order-2', 'OrderPlaced', '{"customer": "Ada"}');

-- What was left out has its default.
SELECT stream, version, type, schema_version, data, metadata, tags
FROM es_read_stream('Order-1');

-- All that an event can bear.
SELECT version
FROM es_append('Order-3', 'OrderPlaced', '{"customer": "Grace"}',
    expected_version => 0,
    metadata => '{"user": "clerk"}',
    event_id => '0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e01',
    tags => ARRAY['customer:7', 'shop:3'],
    schema_version => 2);
SELECT stream, version, type, schema_version, data, metadata, tags, event_id
FROM es_read_stream('Order-3');

-- Drivers send parameters without types.
PREPARE append AS SELECT version FROM es_append($1, $2, $3, $4, $5, $6, $7, $8);
EXECUTE append('Order-4', 'OrderPlaced', '{}', 0, '{}', NULL, '{a,b}', 1);
EXECUTE append('Order-4', 'OrderPaid', '{}', 1, NULL, NULL, NULL, 1);
DEALLOCATE append;

-- Data is any JSON, and comes back as it went in.
CREATE TABLE given (version bigint, data jsonb);
INSERT INTO given VALUES (1, '[1, 2]'), (2, '"text"'), (3, '1e400'), (4, 'true'), (5, 'null'), (6, '{"a": 1.500, "ä": "\u20ac 🚀"}');
SELECT g.version AS expected, a.version
FROM (SELECT * FROM given ORDER BY version) g, LATERAL es_append('Json', 'Any', g.data) a;
SELECT count(*), bool_and(e.data::text = g.data::text) AS same
FROM es_read_stream('Json') e
JOIN given g USING (version);

-- Positions rise with each event, whatever the stream.
SELECT a.position < b.position AS rises
FROM es_append('Order-5', 'OrderPlaced') a, LATERAL es_append('Order-1', 'OrderShipped', expected_version => a.version + 1) b;


-- ---- expected version ----

-- NULL: any.  0: the stream has no events yet.  n: exactly n.  -4: at least one.
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
        RETURN SQLSTATE;
END $$;

SELECT version FROM es_append('Two-0', 'A'), LATERAL es_append('Two-0', 'B') b (v, p, d);

SELECT expected,
    outcome(format('SELECT version FROM es_append(%L, ''T'', expected_version => %L)', 'None-' || i, expected)) AS "no events",
    outcome(format($$
        SELECT s.version
        FROM es_append_events(%1$L, '[{"type": "A"}, {"type": "B"}]') t,
            LATERAL es_append(%1$L, 'T', expected_version => %2$L) s
        $$, 'Two-' || i, expected)) AS "two events"
FROM unnest(ARRAY[NULL, 0, 1, 2, 3, 9223372036854775807, -4, -1, -2, -3, -5, -9223372036854775808]) WITH ORDINALITY e (expected, i)
ORDER BY i;

-- A conflict names the stream, what was expected, and what is.
SELECT version FROM es_append('Order-1', 'OrderPaid', expected_version => 1);
\echo :SQLSTATE
SELECT version FROM es_append('Order-1', 'OrderPlaced', expected_version => 0);
SELECT version FROM es_append('Order-9', 'OrderPaid', expected_version => -4);

-- "No stream" is 0 here.
SELECT version FROM es_append('Order-9', 'OrderPlaced', expected_version => -1);
\echo :SQLSTATE

-- Whoever lost has stored nothing, and used up no position.
SELECT es_stream_version('Order-1'), es_stream_version('Order-9');
SELECT handed_out FROM eventstore.status \gset
SELECT version FROM es_append('Order-1', 'OrderPaid', expected_version => 1);
SELECT handed_out - :handed_out AS "used up" FROM eventstore.status;

-- A stream that a decision depends on, but that is not written: es_check_version()
-- keeps other writers off it until the transaction ends.
BEGIN;
SELECT es_check_version('Order-2', 1);
SELECT version FROM es_append('Invoice-2', 'InvoiceSent');
COMMIT;
SELECT expected,
    outcome(format('SELECT es_check_version(%L, %L)', 'None', expected)) AS "no events",
    outcome(format('SELECT es_check_version(%L, %L)', 'Order-2', expected)) AS "one event"
FROM unnest(ARRAY[NULL, 0, 1, 2, -4, -1, -2]::bigint[]) WITH ORDINALITY e (expected, i)
ORDER BY i;
SELECT es_check_version('Order-2', 7);

-- It made no stream and no event.
SELECT count(*) FROM es_read_stream('None');
SELECT es_stream_version('None');
SELECT version FROM es_append('None', 'First', expected_version => 0);


-- ---- metadata ----

-- eventstore.metadata goes onto every event, below the call's own keys.
BEGIN;
SET LOCAL eventstore.metadata = '{"correlation_id": "request-1", "user": "web"}';
SELECT version FROM es_append('Meta', 'A');
SELECT version FROM es_append('Meta', 'B', metadata => '{"user": "batch", "causation_id": "x"}');
SELECT version FROM es_append('Meta', 'C', metadata => '{"correlation_id": null}');
SELECT version FROM es_append('Meta', 'D', metadata => '{}');
COMMIT;
SELECT version FROM es_append('Meta', 'E');
SELECT version, type, metadata FROM es_read_stream('Meta');

-- Keys are replaced as a whole.
SET eventstore.metadata = '{"by": {"user": "ada", "ip": "::1"}, "n": 1}';
SELECT version FROM es_append('Meta', 'F', metadata => '{"by": {"user": "grace"}}');
RESET eventstore.metadata;
SELECT metadata FROM es_read_stream('Meta', from_version => 6);

-- It is a JSON object, or nothing.
SELECT v AS setting, outcome(format($$
        SELECT version
        FROM set_config('eventstore.metadata', %L, true), LATERAL es_append('Meta', 'G')
        $$, v)) AS append
FROM unnest(ARRAY['[]', '"text"', '1', 'null', '{"a": 1', 'nonsense']) v;
SET eventstore.metadata = '';
SELECT version, metadata FROM es_append('Meta', 'H'), LATERAL (SELECT current_setting('eventstore.metadata')) m (metadata);
RESET eventstore.metadata;


-- ---- what the server makes ----

-- Without an id, an event gets a UUIDv7: its first 48 bits are the time in ms.
SELECT event_id::text ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' AS is_v7,
    abs(('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint
        - extract(epoch FROM created_at) * 1000) < 1000 AS is_now
FROM es_read_stream('Order-1', max_count => 1);
SELECT count(DISTINCT event_id) = count(*) AS "all differ" FROM eventstore.events;

-- created_at is the clock, not the begin of the transaction.
BEGIN;
SELECT version FROM es_append('Clock', 'A');
SELECT pg_sleep(0.01);
SELECT version FROM es_append('Clock', 'B');
SELECT created_at > now() AS "after begin",
    created_at <= clock_timestamp() AS "before now",
    created_at > lag(created_at) OVER (ORDER BY version) AS rises
FROM es_read_stream('Clock');
COMMIT;


-- ---- transactions ----

-- Appends belong to the caller's transaction.
BEGIN;
SELECT version FROM es_append('Gone-1', 'NeverSeenType', '{}', 0);
SELECT count(*) FROM es_read_stream('Gone-1');
ROLLBACK;
SELECT count(*), es_stream_version('Gone-1') FROM es_read_stream('Gone-1');

-- The stream and its type are as new.
SELECT version FROM es_append('Gone-1', 'NeverSeenType', '{}', 0);
SELECT version, type FROM es_read_stream('Gone-1');

-- A savepoint takes back what came after it, and versions stay without gaps.
BEGIN;
SELECT version FROM es_append('Save-1', 'A');
SAVEPOINT s;
SELECT version FROM es_append('Save-1', 'B');
SELECT version FROM es_append('Save-2', 'TypeOfSavepoint', '{}', 0);
ROLLBACK TO s;
SELECT es_stream_version('Save-1'), es_stream_version('Save-2');
SELECT version FROM es_append('Save-1', 'C');
SELECT version FROM es_append('Save-2', 'TypeOfSavepoint', '{}', 0);
SAVEPOINT t;
SELECT version FROM es_append('Save-1', 'D');
RELEASE t;
COMMIT;
SELECT stream, version, type FROM es_read_stream('Save-1')
UNION ALL
SELECT stream, version, type FROM es_read_stream('Save-2');
SELECT type FROM es_read_category('Save');

-- In REPEATABLE READ and above, one's own appends count.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version FROM es_append('Save-1', 'E', expected_version => 3);
SELECT version FROM es_append('Save-1', 'F', expected_version => 4);
SELECT version FROM es_append('Save-1', 'G', expected_version => 4);
\echo :SQLSTATE
ROLLBACK;
SELECT es_stream_version('Save-1');

-- A transaction that may not write, may not append.
BEGIN READ ONLY;
SELECT version FROM es_append('Save-1', 'E');
\echo :SQLSTATE
ROLLBACK;

-- An append cannot be prepared.  Nothing of it is left, and others can be.
BEGIN;
SELECT version FROM es_append('Save-1', 'E');
PREPARE TRANSACTION 'with append';
\echo :SQLSTATE
SELECT count(*) FROM pg_prepared_xacts;
SELECT es_stream_version('Save-1');
SELECT version FROM es_append('Save-1', 'E', expected_version => 3);
BEGIN;
SELECT count(*) FROM es_read_stream('Save-1');
PREPARE TRANSACTION 'with read';
ROLLBACK PREPARED 'with read';


-- ---- in PL/pgSQL ----

-- A conflict can be caught; then the transaction goes on.
DO $$
DECLARE
    v bigint;
BEGIN
    BEGIN
        PERFORM es_append('Flow-1', 'A');
        PERFORM es_append('Flow-1', 'B', expected_version => 7);
    EXCEPTION
        WHEN SQLSTATE 'SE001' THEN
            RAISE NOTICE 'caught %', SQLSTATE;
    END;
    SELECT version INTO v FROM es_append('Flow-1', 'C', expected_version => 0);
    RAISE NOTICE 'version %', v;
    SELECT version INTO v FROM es_append('Flow-1', 'D', expected_version => v);
    RAISE NOTICE 'version %', v;
END $$;
SELECT version, type FROM es_read_stream('Flow-1');

-- Read, decide, append: what a command handler does.
CREATE FUNCTION withdraw(account text, amount numeric) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    seen bigint;
    balance numeric;
    answer bigint;
BEGIN
    SELECT coalesce(max(version), 0), coalesce(sum((data ->> 'amount')::numeric), 0)
    INTO seen, balance
    FROM es_read_stream(account);
    IF balance < amount THEN
        RAISE EXCEPTION 'only % left', balance;
    END IF;
    SELECT version INTO answer
    FROM es_append(account, 'Withdrawn', jsonb_build_object('amount', -amount), seen);
    RETURN answer;
END $$;
SELECT version FROM es_append('Account-1', 'Deposited', '{"amount": 100}');
SELECT withdraw('Account-1', 60);
SELECT withdraw('Account-1', 60);
SELECT version, type, data FROM es_read_stream('Account-1');

-- COMMIT between appends.
DO $$
BEGIN
    FOR i IN 1 .. 3 LOOP
        PERFORM es_append('Loop-1', 'Turn', to_jsonb(i), i - 1);
        IF i = 2 THEN
            ROLLBACK;
            PERFORM es_append('Loop-1', 'Instead', to_jsonb(i), i - 1);
        END IF;
        COMMIT;
    END LOOP;
END $$;
SELECT version, type, data FROM es_read_stream('Loop-1');


-- ---- several calls in a statement ----

-- Each sees the ones before it.
SELECT a.version, b.version
FROM es_append('Twice-1', 'A', '{}', 0) a, LATERAL es_append('Twice-1', 'B', '{}', a.version) b;
SELECT (SELECT version FROM es_append('Twice-1', 'C', '{}', 2)),
    (SELECT version FROM es_append('Twice-1', 'D', '{}', 3));
SELECT count(*), min(version), max(version)
FROM generate_series(1, 1000) i, LATERAL es_append('Twice-2', 'Turn', to_jsonb(i), i - 1);
SELECT count(*), min(version), max(version), bool_and(data = to_jsonb(version)) AS "in order"
FROM es_read_stream('Twice-2');

-- A call belongs in FROM: PostgreSQL makes (f()).* a call for each column.
SELECT count(*) FROM (SELECT (es_append('Star-1', 'A')).*) s WHERE s.version IS NOT NULL;
SELECT (es_append('Star-2', 'A')).version;
SELECT es_stream_version('Star-1') > 1 AS "more than one", es_stream_version('Star-2');

-- As a part of a larger statement.
CREATE TABLE orders (id int, version bigint);
INSERT INTO orders
SELECT i, a.version
FROM generate_series(11, 12) i, LATERAL es_append('Order-' || i, 'OrderPlaced') a;
UPDATE orders SET version = (SELECT a.version FROM es_append('Order-' || id, 'OrderPaid', '{}', orders.version) a);
SELECT * FROM orders ORDER BY id;


-- ---- names ----

-- A name is compared byte by byte: NFC and NFD are two streams, case counts.
SELECT name, version
FROM (VALUES (1, U&'Caf\00e9-1'), (2, U&'Cafe\0301-1'), (3, U&'caf\00e9-1'), (4, '🚀-🌍'), (5, ' '), (6, 'it''s "quoted"-1'),
        (7, 'a-b-c'), (8, 'trailing '), (9, 'trailing'), (10, 'a\b'), (11, '{}'), (12, '0'), (13, 'null'), (14, '日本語-1'),
        (15, '$all'), (16, 'x%_')) v (i, name),
    LATERAL es_append(v.name, v.name, to_jsonb(v.name), 0)
ORDER BY i;
SELECT count(*) AS streams,
    bool_and(e.stream = s.stream AND e.type = s.stream AND e.data = to_jsonb(s.stream)) AS "come back"
FROM eventstore.streams s, LATERAL es_read_stream(s.stream) e
WHERE s.stream !~ '^[A-Z]' OR s.stream ~ '^Caf';

-- The category is the name up to the first '-'; that of a bare UUID is ''.
SELECT name, es_category(name)
FROM (VALUES (1, 'Order-7'), (2, 'Order'), (3, 'Order-7-8'), (4, 'Order-'), (5, 'Order-11111111-2222-3333-4444-555555555555'),
        (6, '11111111-2222-3333-4444-555555555555'), (7, 'ABCDEF01-2222-3333-4444-55555555555F'),
        (8, '11111111-2222-3333-4444-55555555555'), (9, '11111111-2222-3333-4444-55555555555g'),
        (10, '🚀-🌍'), (11, ' -1')) v (i, name)
ORDER BY i;
