-- Writing events with INSERT and COPY: eventstore.new_events.

CREATE EXTENSION eventstore;
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN EXECUTE statement; RETURN 'ok';
EXCEPTION WHEN OTHERS THEN GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_CONTEXT;
    RETURN concat_ws('; ', SQLSTATE || ': ' || SQLERRM, substring(detail FROM 'row \d+ of eventstore.new_events')); END $$;

-- Each row is an event, appended as by es_append().
INSERT INTO eventstore.new_events (stream, type, data) VALUES
    ('Order-1', 'OrderPlaced', '{"customer": "Ada"}'),
    ('Order-2', 'OrderPlaced', '{"customer": "Grace"}'),
    ('Order-1', 'OrderPaid', DEFAULT);
SELECT position, stream, version, type, data, schema_version FROM es_read_all();

-- What became of it is given back; the other columns are as they were given.
INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-1', 'OrderShipped'), ('Order-2', 'OrderPaid')
RETURNING *;
WITH shipped AS (INSERT INTO eventstore.new_events (stream, type) VALUES ('Order-2', 'OrderShipped') RETURNING version, position)
SELECT version, position, (SELECT count(*) FROM eventstore.events) AS "of the statement's snapshot" FROM shipped;

-- COPY: without a list of columns it has all but those that are given back.
COPY eventstore.new_events (stream, type, data, created_at) FROM STDIN;
Stock-1	Counted	{"n": 3}	2001-02-03 04:05:06.000001+00
Stock-1	Counted	{"n": 4}	1999-01-01 00:00:00+00
\.
COPY eventstore.new_events FROM STDIN;
Full-1	A	{}	0	{"user": "ada"}	0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e01	{customer:7,shop:3}	2	2001-02-03 04:05:06Z	application/x	\\x0001
Full-1	B	[]	1	\N	\N	\N	1	\N	\N	\N
Full-1	C	3	\N	null	\N	{}	3	\N	\N	\\x
\.
SET timezone = 'UTC';
SELECT version, type, data, created_at FROM es_read_stream('Stock-1');
SELECT version, type, schema_version, data, metadata, tags, content_type, payload, event_id = '0b8a3a2e-6a58-4a5f-8f34-2d1a0f0c1e01' AS own_id
FROM es_read_stream('Full-1');
SELECT stream, version FROM es_query('[{"tags": ["shop:3"]}]');

-- Many rows, from a query and in other formats.  Positions rise in the order of rows.
CREATE TABLE history (n int, stream text, type text, data jsonb, expected_version bigint, event_id uuid, tags text[], created_at timestamptz);
INSERT INTO history SELECT n, 'Bulk-' || n % 7, 'T' || n % 3, jsonb_build_object('n', n), (n - 1) / 7, md5(n::text)::uuid,
    ARRAY['n:' || n % 50], '2020-01-01 00:00:00Z'::timestamptz + n * interval '1 min' FROM generate_series(1, 9000) n;
CREATE FUNCTION differences(prefix text) RETURNS TABLE (events bigint, different bigint) LANGUAGE sql AS $$
    SELECT count(*), count(*) FILTER (WHERE (e.type, e.data, e.version, e.created_at, e.tags) IS DISTINCT FROM
        (h.type, h.data, h.expected_version + 1, h.created_at, h.tags))
    FROM (SELECT *, row_number() OVER (ORDER BY position) AS n FROM es_read_all(0, NULL) WHERE stream LIKE prefix || 'Bulk-%') e
    FULL JOIN history h ON h.n = e.n AND prefix || h.stream = e.stream $$;
INSERT INTO eventstore.new_events (stream, type, data, expected_version, tags, created_at)
    SELECT stream, type, data, expected_version, tags, created_at FROM history ORDER BY n;
SELECT * FROM differences('');
COPY (SELECT 'csv' || stream AS stream, type, data, expected_version, tags, created_at FROM history ORDER BY n)
    TO PROGRAM 'cat > new_events.csv' (FORMAT csv, HEADER);
COPY eventstore.new_events (stream, type, data, expected_version, tags, created_at)
    FROM PROGRAM 'cat new_events.csv; rm new_events.csv' (FORMAT csv, HEADER);
SELECT * FROM differences('csv');
COPY (SELECT 'binary' || stream, type, data, expected_version, event_id, tags, created_at FROM history ORDER BY n)
    TO PROGRAM 'cat > new_events.binary' (FORMAT binary);
COPY eventstore.new_events (stream, type, data, expected_version, event_id, tags, created_at)
    FROM PROGRAM 'cat new_events.binary' (FORMAT binary);
SELECT * FROM differences('binary');

-- The same again stores nothing: each row is a duplicate, whatever its expected version.
SELECT es_head() AS head \gset
COPY eventstore.new_events (stream, type, data, expected_version, event_id, tags, created_at)
    FROM PROGRAM 'cat new_events.binary; rm new_events.binary' (FORMAT binary);
INSERT INTO eventstore.new_events (stream, type, data, expected_version, event_id)
    SELECT 'binary' || stream, type, data, 77, event_id FROM history ORDER BY random();
SELECT es_head() = :head AS nothing_new;
COPY eventstore.new_events (stream, type) FROM STDIN WHERE type <> 'B' AND stream LIKE 'Some-%';
Some-1	A
Some-1	B
None-1	A
Some-2	C
\.
SELECT stream, version, type FROM es_read_category('Some');

-- ---- each row counts as a call of its own ----

-- Repeated in the same statement, too; rows with and without ids may be mixed.
CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('0b8a3a2e-6a58-4a5f-8f34-' || lpad(n::text, 12, '0'))::uuid $$;
INSERT INTO eventstore.new_events (stream, type, event_id) VALUES
    ('Own-1', 'A', id(1)), ('Own-1', 'B', NULL), ('Own-1', 'A', id(1)), ('Own-2', 'C', id(2)), ('Own-2', 'C', id(2))
RETURNING stream, type, version, position - :head AS position, duplicate;
INSERT INTO eventstore.new_events (stream, type, event_id) VALUES
    ('Own-3', 'A', id(3)), ('Own-3', 'B', NULL), ('Own-3', 'A', id(3)), ('Own-1', 'A', id(1)), ('Own-3', 'D', id(4)), ('Own-3', 'D', id(4)), ('Own-3', 'E', id(5));
COPY eventstore.new_events (stream, type, event_id) FROM STDIN;
Own-4	A	0b8a3a2e-6a58-4a5f-8f34-000000000011
Own-4	B	0b8a3a2e-6a58-4a5f-8f34-000000000012
Own-3	A	0b8a3a2e-6a58-4a5f-8f34-000000000003
Own-4	A	0b8a3a2e-6a58-4a5f-8f34-000000000011
Own-4	C	\N
Own-4	B	0b8a3a2e-6a58-4a5f-8f34-000000000012
Own-4	D	0b8a3a2e-6a58-4a5f-8f34-000000000013
\.
SELECT stream, version, type FROM es_read_category('Own') ORDER BY stream, version;

-- The id of another event is SE003, of the same statement or not.
SELECT outcome($$INSERT INTO eventstore.new_events (stream, type, event_id) VALUES ('Own-5', 'X', NULL), ('Own-5', 'A', id(1)), ('Own-5', 'A', id(20))$$) AS another_stream,
    outcome($$INSERT INTO eventstore.new_events (stream, type, event_id) VALUES ('Own-1', 'A', id(21)), ('Own-1', 'Z', id(1)), ('Own-1', 'C', id(22))$$) AS another_type,
    outcome($$INSERT INTO eventstore.new_events (stream, type, data, event_id) VALUES ('Own-1', 'A', '{}', id(23)), ('Own-1', 'A', '[]', id(23))$$) AS other_data,
    outcome($$INSERT INTO eventstore.new_events (stream, type, event_id, payload) VALUES ('Own-1', 'A', id(1), 'x')$$) AS another_payload;

-- An expected version is compared with the version just before its row.
INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Own-6', 'A', 0), ('Own-6', 'B', 1), ('Own-7', 'A', NULL), ('Own-6', 'C', -4), ('Own-7', 'B', 1);
SELECT statement, outcome('INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ' || statement) FROM (VALUES
    ($$('Own-8', 'A', 0), ('Own-8', 'B', 0)$$), ($$('Own-8', 'A', -4)$$), ($$('Own-6', 'A', 3), ('Own-7', 'A', 3)$$), ($$('Own-6', 'A', -1)$$)) v (statement);

-- All or nothing.
SELECT es_stream_version('Own-8');

-- Events of a stream that is gone are refused, and repetitions of its events are not.
SELECT es_append('Own-9', 'A', event_id => id(30));
SELECT es_tombstone_stream('Own-9');
SELECT outcome($$INSERT INTO eventstore.new_events (stream, type, event_id) VALUES ('Own-10', 'A', id(31)), ('Own-9', 'A', id(30))$$),
    outcome($$INSERT INTO eventstore.new_events (stream, type, event_id) VALUES ('Own-10', 'A', id(32)), ('Own-9', 'A', id(30)), ('Own-9', 'B', id(33))$$);

-- What was taken away is remembered as of any call, and then forgotten.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
INSERT INTO eventstore.new_events (stream, type, event_id) SELECT 'Gone-' || n % 2, 'T', id(100 + n) FROM generate_series(0, 9) n;
SELECT es_truncate_stream('Gone-0', 4), es_truncate_stream('Gone-1', 3);
INSERT INTO eventstore.new_events (stream, type, event_id) SELECT 'Gone-' || n % 2, 'T', id(100 + n) FROM generate_series(0, 9) n;
SELECT es_scavenge();
INSERT INTO eventstore.new_events (stream, type, event_id) SELECT 'Gone-' || n % 2, 'T', id(100 + n) FROM generate_series(0, 9) n;
SELECT es_stream_version('Gone-0'), es_stream_version('Gone-1');
SELECT outcome($$INSERT INTO eventstore.new_events (stream, type, event_id) VALUES ('Gone-2', 'T', id(99)), ('Gone-2', 'T', id(100))$$);
ALTER SYSTEM SET eventstore.remember_ids = 0;
SELECT pg_reload_conf();
\c
SELECT es_truncate_stream('Gone-0', 6);
INSERT INTO eventstore.new_events (stream, type, event_id) SELECT 'Gone-' || n % 2, 'T', id(100 + n) FROM generate_series(0, 9) n;
SELECT stream, array_agg(version || ':' || right(event_id::text, 3) ORDER BY version) FROM es_read_category('Gone') GROUP BY stream;
ALTER SYSTEM RESET eventstore.remember_ids;
ALTER SYSTEM RESET eventstore.scavenge_interval;
SELECT pg_reload_conf();
\c

-- ---- what es_append() checks is checked ----

SELECT columns, outcome(format('INSERT INTO eventstore.new_events (%s) VALUES (''Ok-1'', ''T'', DEFAULT), (%s)', columns, row_values)) FROM (VALUES
    ('stream, type, data', $$NULL, 'T', '{}'$$), ('stream, type, data', $$'S-1', NULL, '{}'$$), ('stream, type, data', $$'S-1', 'T', NULL$$),
    ('stream, type, data', $$'', 'T', '{}'$$), ('stream, type, data', $$'S-1', '-t', '{}'$$), ('stream, type, data', $$repeat('s', 256), 'T', '{}'$$),
    ('stream, type, data', $$'S-1', 'T', to_jsonb(repeat('x', 1024 * 1024))$$),
    ('stream, type, schema_version', $$'S-1', 'T', NULL$$), ('stream, type, schema_version', $$'S-1', 'T', 0$$),
    ('stream, type, metadata', $$'S-1', 'T', '[]'$$), ('stream, type, tags', $$'S-1', 'T', '{a,NULL}'$$), ('stream, type, tags', $$'S-1', 'T', '{{a},{b}}'$$),
    ('stream, type, tags', $$'S-1', 'T', '{""}'$$), ('stream, type, created_at', $$'S-1', 'T', 'infinity'$$), ('stream, type, content_type', $$'S-1', 'T', 'a/b'$$),
    ('stream, type, expected_version', $$'S-1', 'T', -7$$)) v (columns, row_values);

-- An error says which row it is about, however far COPY has come meanwhile.
COPY (SELECT 'Far-1', 'T', n - 1 - (n > 5000)::int FROM generate_series(1, 6000) n) TO PROGRAM 'cat > new_events.far';
COPY eventstore.new_events (stream, type, expected_version) FROM PROGRAM 'cat new_events.far; rm new_events.far';
SELECT es_stream_version('Far-1');
COPY eventstore.new_events (stream, type) FROM STDIN;
Far-2	A
Far-2	
\.

-- ---- metadata of the session, transactions, code ----

SET eventstore.metadata = '{"correlation_id": "c", "user": "ada"}';
INSERT INTO eventstore.new_events (stream, type, metadata) VALUES ('Meta-1', 'A', '{"user": "eve"}'), ('Meta-1', 'B', NULL);
RESET eventstore.metadata;
SELECT version, metadata FROM es_read_correlation('c');

BEGIN;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Own-11', 'A');
SAVEPOINT s;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Own-11', 'B');
ROLLBACK TO s;
COPY eventstore.new_events (stream, type) FROM STDIN;
Own-11	C
\.
SELECT version, type FROM es_read_stream('Own-11');
COMMIT;
SELECT version, type FROM es_read_stream('Own-11');
BEGIN READ ONLY;
INSERT INTO eventstore.new_events (stream, type) VALUES ('Own-11', 'D');
ROLLBACK;
BEGIN READ ONLY;
COPY eventstore.new_events (stream, type) FROM '/dev/null';
ROLLBACK;

-- A statement does not see its own rows; a call in it is in the order of the rows.
INSERT INTO eventstore.new_events (stream, type, data)
    SELECT 'Own-12', 'Read', jsonb_build_object('events', (SELECT count(*) FROM es_read_stream('Own-12'))) FROM generate_series(1, 3);
INSERT INTO eventstore.new_events (stream, type, data)
    SELECT 'Own-12', 'After', to_jsonb(a.version) FROM generate_series(1, 2), es_append('Own-12', 'Called') a;
SELECT version, type, data FROM es_read_stream('Own-12');

-- Events that are read are not read again.
INSERT INTO eventstore.new_events (stream, type, data) SELECT 'Own-13', type, data FROM eventstore.events WHERE stream = 'Own-12' ORDER BY position;
INSERT INTO eventstore.new_events (stream, type, data) SELECT stream, type, data FROM es_read_stream('Own-13');
SELECT es_stream_version('Own-13');

DO $$ BEGIN
    FOR n IN 1 .. 3 LOOP
        INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Own-14', 'T', n - 1);
        BEGIN
            INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Own-14', 'T', n), ('Own-14', 'T', n);
        EXCEPTION WHEN SQLSTATE 'SE001' THEN NULL;
        END;
    END LOOP;
END $$;
SELECT es_stream_version('Own-14');
PREPARE p (text) AS INSERT INTO eventstore.new_events (stream, type) VALUES ($1, 'T'), ($1, 'T') RETURNING version;
EXECUTE p ('Own-15');
EXECUTE p ('Own-15');

-- A projection that lives in the transaction is given the rows; its code may write here, an upcaster's may not.
CREATE TABLE counted (type text PRIMARY KEY, n bigint);
SELECT es_create_projection('counted', categories => '{Sale}', mode => 'inline', query =>
    'INSERT INTO counted SELECT type, count(*) FROM es_batch GROUP BY type ON CONFLICT (type) DO UPDATE SET n = counted.n + excluded.n');
CREATE FUNCTION reply(event es_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO eventstore.new_events (stream, type) VALUES ('Reply-1', 'Of' || event.type), ('Reply-2', 'Of' || event.type) $$;
SELECT es_create_projection('reply', 'reply', categories => '{Sale}', mode => 'inline');
INSERT INTO eventstore.new_events (stream, type) SELECT 'Sale-' || n, 'S' || n % 2 FROM generate_series(1, 5) n;
SELECT * FROM counted ORDER BY type;
SELECT stream, version, type, metadata ? 'causation_id' AS has_cause FROM es_read_category('Reply');
CREATE FUNCTION up(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN INSERT INTO eventstore.new_events (stream, type) VALUES ('Own-16', 'T'); RETURN data; END $$;
SELECT es_register_upcaster('OrderPlaced', 1, 'up');
SELECT outcome($$SELECT * FROM es_read_stream('Order-1')$$);

SELECT * FROM es_check();

-- ---- each row counts as a call of its own ----

-- The moment that PostgreSQL counts time from is a time as any other.
INSERT INTO eventstore.new_events (stream, type, created_at) VALUES ('Epoch-1', 'A', '2000-01-01 00:00:00+00'), ('Epoch-1', 'B', '1999-12-31 23:59:59+00');
SELECT version FROM es_append_batch('{Epoch-1}', '{C}', '{"{}"}', created_at => '{2000-01-01 00:00:00+00}');
SELECT type, created_at AT TIME ZONE 'UTC' AS at FROM es_read_stream('Epoch-1');

-- With an inline projection that appends, an expected version is compared with what that has made.
CREATE FUNCTION cause(event es_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (event).stream LIKE 'Cause-%' THEN
        PERFORM es_append(replace((event).stream, 'Cause', 'Effect'), 'Caused');
    END IF;
END $$;
SELECT es_create_projection('causes', handler => 'cause', mode => 'inline', start_after => es_head());
SELECT es_wait_for_projection('causes', timeout => '60 s');
INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Cause-1', 'T', NULL), ('Effect-1', 'T', 1);
INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Cause-2', 'T', NULL), ('Effect-2', 'T', 1) RETURNING stream, version;
\set VERBOSITY sqlstate
INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Cause-3', 'T', NULL), ('Effect-3', 'T', 0);
INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Cause-3', 'T', NULL), ('Effect-3', 'T', 0) RETURNING version;
\set VERBOSITY default
SELECT stream, type, version FROM eventstore.events WHERE stream ~ '^Effect-' ORDER BY position;
SELECT es_drop_projection('causes');

-- So with a trigger on the log,
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.stream LIKE 'Lead-%' THEN
        PERFORM es_append(replace(NEW.stream, 'Lead', 'Follow'), 'Followed');
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER follow BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION follow();
INSERT INTO eventstore.new_events (stream, type) VALUES ('Lead-1', 'T'), ('Follow-1', 'T');
COPY eventstore.new_events (stream, type, expected_version) FROM STDIN;
Lead-2	T	0
Follow-2	T	1
\.
DROP TRIGGER follow ON eventstore.event_log;
CREATE TRIGGER follow AFTER INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION follow();
INSERT INTO eventstore.new_events (stream, type, expected_version) VALUES ('Lead-3', 'T', 0), ('Follow-3', 'T', 1);
DROP TRIGGER follow ON eventstore.event_log;
SELECT stream, type, version FROM eventstore.events WHERE stream ~ '^Follow-' ORDER BY position;
-- and where a rule of retention hides what was stored a moment ago.
SELECT es_set_retention('Hides', max_age => '1 day');
\set VERBOSITY sqlstate
INSERT INTO eventstore.new_events (stream, type, created_at, expected_version) VALUES ('Hides-1', 'T', '2001-01-01', NULL), ('Hides-1', 'T', '2001-01-01', -4);
\set VERBOSITY default
SELECT es_stream_version('Hides-1');
SELECT * FROM es_check();
