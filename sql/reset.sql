-- A store emptied for the next test.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;
SET eventstore.allow_drop = on;
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN EXECUTE statement; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;

-- What is kept of events, everywhere, and all that was declared.
CREATE VIEW kept AS
SELECT c.relname AS "table", (xpath('//n/text()', query_to_xml(format('SELECT count(*) AS n FROM %s', c.oid::regclass), false, true, '')))[1]::text::int AS rows
FROM unnest((SELECT extconfig FROM pg_extension WHERE extname = 'eventstore')) t (oid)
JOIN pg_class c USING (oid)
WHERE c.relkind = 'r';
CREATE TABLE applied (stream text, version bigint);
CREATE FUNCTION apply(event es_event) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN IF event.type = 'Bad' THEN RAISE 'no'; END IF; INSERT INTO applied VALUES (event.stream, event.version); END $$;
CREATE FUNCTION tally(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1) $$;
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data $$;
SELECT es_create_projection('async', 'apply', on_error => 'skip', max_retries => 0, reset => 'TRUNCATE applied'),
    es_create_projection('stops', 'apply', max_retries => 0, reset => ''),
    es_create_projection('inline', reducer => 'tally', mode => 'inline', partition_by => 'category');
SELECT es_create_subscription('s', partitions => 2), es_set_retention('Cart', 10), es_register_upcaster('Old', 1, 'upcast');
-- A store with nothing in it stays so.
SELECT es_reset();

CREATE PROCEDURE fill() LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_append('Order-' || n % 3, 'Placed', event_id => ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, tags => ARRAY['t' || n]) FROM generate_series(1, 9) n;
    PERFORM es_append('Cart-1', 'Bad'), es_append('Gone-1', 'Placed'), es_append('Gone-2', 'Placed');
    PERFORM es_save_snapshot('Order-1', 3, '3', 'tally'), es_delete_stream('Gone-1'), es_scavenge(), es_delete_stream('Gone-2');
    COMMIT;
    FOR i IN 1 .. 6000 LOOP
        EXIT WHEN EXISTS (SELECT FROM eventstore.projections WHERE state = 'stopped');
        PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM es_wait_for_projection('async', timeout => '60 s');
    PERFORM es_nack('s', 'me', array_agg(position), 'park') FROM es_fetch('s', 'me', 3);
    PERFORM es_fetch('s', 'me', 2);
END $$;
CALL fill();
SELECT * FROM kept ORDER BY 1;
SELECT name, state, dead_letters FROM eventstore.projections ORDER BY name;
SELECT es_epoch() AS epoch, es_head() AS head \gset

-- Not by mistake.
RESET eventstore.allow_drop;
SELECT es_reset();
SET eventstore.allow_drop = on;
-- What is rolled back has not been; meanwhile the store is empty.
BEGIN;
SAVEPOINT s;
SELECT es_reset();
SELECT es_epoch() <> :'epoch' AS "another history";
SELECT version, position > :head AS "goes on" FROM es_append('Order-1', 'Placed', expected_version => 0, event_id => '00000000-0000-4000-8000-000000000001', tags => '{t1}');
SELECT stream, version, type FROM es_read_all(categories => '{Order}');
ROLLBACK TO s;
SELECT es_epoch() = :'epoch' AS "the same history", count(*) AS events FROM es_read_all();
SELECT stream, version, type FROM es_read_category('Order', max_count => 2);
SELECT version FROM es_append('Order-1', 'Placed');
ROLLBACK;
SELECT count(*) AS events, es_head() >= :head AS head FROM es_read_all();
SELECT position AS last FROM es_append('Order-1', 'Placed') \gset

SELECT es_reset();
SELECT * FROM kept WHERE rows > 0 ORDER BY 1;
SELECT es_epoch() <> :'epoch' AS "another history", es_head() >= :last AS head, count(*) AS events FROM es_read_all();
SELECT name, state, checkpoint >= :last AS checkpoint, lag, failures, last_error, dead_letters FROM eventstore.projections ORDER BY name;
SELECT name, checkpoint >= :last AS checkpoint, lag, pending, held, parked, consumers FROM eventstore.subscriptions;
SELECT stream FROM eventstore.streams;
SELECT type FROM eventstore.event_types;
SELECT es_ack('s', 'me', ARRAY[:last]);
SELECT es_projection_state('inline', 'Order');
-- What projections have written is theirs.
SELECT count(*) > 0 AS "left to us" FROM applied;
TRUNCATE applied;

-- All begins anew: versions, ids, types, conditions; positions go on.
SELECT version, position > :last AS "goes on", duplicate FROM es_append('Order-1', 'Placed', expected_version => 0, event_id => '00000000-0000-4000-8000-000000000001', tags => '{t1}',
    condition => jsonb_build_object('query', '[{"tags": ["t1"]}]'::jsonb));
SELECT version FROM es_append_batch('{Order-1,Cart-1}', '{Placed,Placed}', '{1,2}', '{1,0}');
SELECT stream, version, type FROM es_read_all();
SELECT stream, version FROM es_query('[{"tags": ["t1"]}]');
SELECT category, type, events FROM eventstore.event_types ORDER BY category;
SELECT es_wait_for_projection('async', timeout => '60 s'), es_wait_for_projection('stops', timeout => '60 s');
SELECT stream, version, count(*) FROM applied GROUP BY stream, version ORDER BY 1, 2;
SELECT es_projection_state('inline', 'Order'), es_projection_state('inline', 'Cart');
SELECT stream, version FROM es_fetch('s', 'other') ORDER BY position;

-- A second time, and in one transaction with what comes after.
BEGIN;
SELECT version FROM es_append('Order-1', 'Placed');
SELECT es_reset();
SELECT version FROM es_append('Order-1', 'Fresh');
SELECT es_reset();
SELECT version FROM es_append('Order-1', 'Fresh');
COMMIT;
SELECT stream, version, type FROM es_read_all();
SELECT es_head() = max(position) AS head FROM eventstore.event_log;

-- ---- who ----

CREATE ROLE regress_tester;
GRANT EXECUTE ON FUNCTION es_reset TO regress_tester;
SET ROLE regress_tester;
SELECT es_reset();
RESET ROLE;
DROP OWNED BY regress_tester;
DROP ROLE regress_tester;
BEGIN READ ONLY;
SELECT es_reset();
ROLLBACK;
-- Not by code that the store runs.
CREATE FUNCTION reset_it(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_reset() $$;
SELECT es_create_projection('resets', 'reset_it', mode => 'inline', reset => '', start_after => es_head());
SELECT outcome($$SELECT es_append('Order-1', 'Placed')$$);
SELECT es_drop_projection('resets');
-- Nor while one's own query still reads.
BEGIN;
DECLARE open CURSOR FOR SELECT version FROM eventstore.event_log;
FETCH open;
SELECT es_reset();
ROLLBACK;
