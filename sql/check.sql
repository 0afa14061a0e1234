-- es_check(): what is wrong with a store.

CREATE EXTENSION eventstore;

-- ---- a store with some of everything: nothing is wrong ----

SELECT count(*) FROM es_check();
SELECT es_append('Order-' || n % 5, 'Placed', jsonb_build_object('n', n), metadata => '{"correlation_id": "c"}',
                 tags => ARRAY['order:' || n % 5, 'all', 'all'], schema_version => 1 + n % 2)
FROM generate_series(1, 30) n \g /dev/null
SELECT es_append('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'Bare') \g /dev/null
SELECT es_append('Solo-1', 'Placed'), es_append('Solo-1', 'Placed') \g /dev/null
SELECT es_append('Many' || n || '-1', 'Counted', tags => ARRAY['many']) FROM generate_series(1, 1010) n \g /dev/null
SELECT es_check_version('Never-1', 0) \g /dev/null
SELECT es_append('Gone-1', 'Placed'), es_append('Kept-1', 'Placed'), es_append('Kept-1', 'Placed') \g /dev/null
SELECT es_save_snapshot('Order-1', 3, '{}'), es_save_snapshot('Kept-1', 2, '{}');
SELECT es_truncate_stream('Order-2', 3), es_delete_stream('Order-3'), es_tombstone_stream('Gone-1'), es_set_retention('Kept', 1), es_set_retention('Nothing', 1);
CREATE TABLE seen (position bigint);
SELECT es_create_projection('seen', query => 'INSERT INTO seen SELECT position FROM es_batch');
SELECT es_create_subscription('mailer', partitions => 2);
SELECT count(*) FROM es_fetch('mailer', 'a', 5);
SELECT es_nack('mailer', 'a', ARRAY(SELECT unnest(pending) FROM eventstore.subscription_partition LIMIT 1));
SELECT * FROM es_check();
SELECT es_scavenge() \g /dev/null
SELECT * FROM es_check();
SELECT es_set_retention('Kept'), es_append('Order-3', 'Placed') \g /dev/null
SELECT * FROM es_check();

-- Its own transaction's changes are part of what it sees.
BEGIN;
SELECT es_append('Order-1', 'Placed', tags => ARRAY['mine']) \g /dev/null
SELECT * FROM es_check();
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT * FROM es_check();
COMMIT;

-- EXECUTE is all that it takes.
CREATE ROLE regress_checker;
SET ROLE regress_checker;
SELECT * FROM es_check();
RESET ROLE;
GRANT EXECUTE ON FUNCTION es_check TO regress_checker;
SET ROLE regress_checker;
SELECT * FROM es_check();
RESET ROLE;
REVOKE EXECUTE ON FUNCTION es_check FROM regress_checker;
DROP ROLE regress_checker;

-- ---- damage, each taken back ----

-- Below the guard, as only a superuser can.
CREATE PROCEDURE damage(statement text)
    LANGUAGE plpgsql
    AS $$
DECLARE
    r record;
BEGIN
    BEGIN
        SET LOCAL eventstore.allow_drop = on;
        ALTER TABLE eventstore.event_log DISABLE TRIGGER ALL;
        ALTER TABLE eventstore.event_tag DISABLE TRIGGER ALL;
        ALTER TABLE eventstore.stream DISABLE TRIGGER ALL;
        ALTER TABLE eventstore.event_type DISABLE TRIGGER ALL;
        ALTER TABLE eventstore.hidden DISABLE TRIGGER ALL;
        ALTER TABLE eventstore.projection_state DISABLE TRIGGER ALL;
        EXECUTE statement;
        FOR r IN SELECT * FROM es_check() ORDER BY object, problem LOOP
            RAISE NOTICE '% | % | %', r.severity, regexp_replace(r.object, '[0-9a-f]{8}-[-0-9a-f]{27}', 'ID'), r.problem;
        END LOOP;
        RAISE EXCEPTION 'taken back';
    EXCEPTION
        WHEN raise_exception THEN
            NULL;
    END;
END $$;
CREATE FUNCTION key_of(stream text) RETURNS bigint LANGUAGE sql
    AS $$ SELECT s.stream_key FROM eventstore.stream s WHERE s.name = stream $$;
CREATE FUNCTION of_stream(stream text, version bigint) RETURNS bigint LANGUAGE sql
    AS $$ SELECT position FROM eventstore.event_log l WHERE l.stream_key = key_of(of_stream.stream) AND l.version = of_stream.version $$;
\set SHOW_CONTEXT never
\set VERBOSITY terse

SELECT last_value AS id_check FROM eventstore.id_check \gset
-- streams and versions
CALL damage($$DELETE FROM eventstore.event_tag WHERE position = of_stream('Order-1', 3); DELETE FROM eventstore.event_log WHERE position = of_stream('Order-1', 3)$$);
CALL damage($$DELETE FROM eventstore.event_log WHERE position = of_stream('Solo-1', 1)$$);
CALL damage($$DROP INDEX eventstore.event_log_stream; CREATE INDEX event_log_stream ON eventstore.event_log (stream_key, version);
    UPDATE eventstore.event_log SET version = 2 WHERE position = of_stream('Order-1', 3)$$);
CALL damage($$UPDATE eventstore.event_log SET version = -version WHERE stream_key = key_of('Order-1') AND version IN (2, 3);
    UPDATE eventstore.event_log SET version = 5 + version WHERE version < 0$$);
CALL damage($$UPDATE eventstore.stream SET used_version = 9 WHERE name = 'Order-2'$$);
CALL damage($$UPDATE eventstore.stream SET stream_key = 1e15 WHERE name = 'Never-1'$$);
CALL damage($$DELETE FROM eventstore.stream WHERE name = 'Order-4'$$);
CALL damage($$DROP INDEX eventstore.stream_key; CREATE INDEX stream_key ON eventstore.stream (stream_key);
    UPDATE eventstore.stream SET stream_key = key_of('Order-4') WHERE name = 'Never-1'$$);
CALL damage($$DROP INDEX eventstore.stream_name; CREATE INDEX stream_name ON eventstore.stream (name);
    INSERT INTO eventstore.stream (stream_key, name) VALUES (8000, 'Never-1')$$);
-- events
CALL damage($$DELETE FROM eventstore.event_tag WHERE position = of_stream('Many1-1', 1); UPDATE eventstore.event_log SET position = 1e15 WHERE position = of_stream('Many1-1', 1)$$);
CALL damage($$DROP INDEX eventstore.event_log_position; CREATE INDEX event_log_position ON eventstore.event_log (position);
    UPDATE eventstore.event_log SET position = of_stream('Solo-1', 1) WHERE position = of_stream('Solo-1', 2)$$);
CALL damage($$DROP INDEX eventstore.event_log_id; CREATE INDEX event_log_id ON eventstore.event_log (event_id);
    UPDATE eventstore.event_log SET event_id = '11111111-2222-4333-8444-555555555555' WHERE stream_key = key_of('Solo-1')$$);
CALL damage($$UPDATE eventstore.event_log SET event_id = (SELECT event_id FROM eventstore.events WHERE stream = 'Many1-1' AND version = 1)
    WHERE position = of_stream('Solo-1', 1)$$);
CALL damage($$UPDATE eventstore.event_log SET created_at = '1066-10-14 09:00:00+00' WHERE position = of_stream('Solo-1', 1)$$);
CALL damage($$SELECT setval('eventstore.id_check', 7)$$);
SELECT setval('eventstore.id_check', :id_check) > 0 AS mended;
-- the dictionary
CALL damage($$DELETE FROM eventstore.event_type WHERE type = 'Bare'$$);
CALL damage($$INSERT INTO eventstore.event_type SELECT type_key, 'Another', NULL, type, schema_version FROM eventstore.event_type WHERE type = 'Bare'$$);
CALL damage($$UPDATE eventstore.event_type SET bucket = 1 WHERE type = 'Bare'$$);
CALL damage($$UPDATE eventstore.event_type SET type = 'Naked' WHERE type = 'Bare'$$);
CALL damage($$UPDATE eventstore.event_type SET content_type = 'text/plain' WHERE type = 'Bare'$$);
CALL damage($$UPDATE eventstore.event_log SET type_key = (SELECT type_key FROM eventstore.event_type WHERE type = 'Bare') WHERE stream_key = key_of('Many1-1')$$);
CALL damage($$UPDATE eventstore.stream SET name = 'Renamed-1' WHERE name = 'Many1010-1'$$);
-- tags
CALL damage($$UPDATE eventstore.event_tag SET tag = 7 WHERE position = of_stream('Many1-1', 1)$$);
CALL damage($$INSERT INTO eventstore.event_tag SELECT * FROM eventstore.event_tag WHERE position = of_stream('Many1-1', 1)$$);
CALL damage($$INSERT INTO eventstore.event_tag VALUES (7, 7000)$$);
CALL damage($$UPDATE eventstore.event_log SET tags = '{other}' WHERE position = of_stream('Many1-1', 1)$$);
-- what was taken away, and snapshots
CALL damage($$INSERT INTO eventstore.hidden VALUES (7000, 1, now())$$);
CALL damage($$INSERT INTO eventstore.hidden SELECT key_of('Order-1'), 5, now()$$);
CALL damage($$UPDATE eventstore.stream SET first_version = 5 WHERE name = 'Order-1'$$);
CALL damage($$UPDATE eventstore.snapshot SET stream_key = 7000 WHERE version = 3$$);
CALL damage($$UPDATE eventstore.snapshot SET version = 7 WHERE version = 3$$);
-- projections
CALL damage($$DELETE FROM eventstore.projection_progress$$);
CALL damage($$UPDATE eventstore.projection_progress SET checkpoint = 1e15$$);
CALL damage($$UPDATE eventstore.projection_progress SET projection_id = 77; INSERT INTO eventstore.projection_state VALUES (77, 'k', '{}')$$);
-- subscriptions
CALL damage($$DELETE FROM eventstore.subscription_partition WHERE partition = 1$$);
CALL damage($$UPDATE eventstore.subscription_partition SET delivered = 1e15 WHERE partition = 1$$);
CALL damage($$UPDATE eventstore.subscription_partition SET checkpoint = delivered + 1 WHERE partition = 1$$);
CALL damage($$UPDATE eventstore.subscription_partition SET held = held + 1 WHERE partition = 1$$);
CALL damage($$DELETE FROM eventstore.subscription$$);
-- the store
CALL damage($$DELETE FROM eventstore.mark$$);
CALL damage($$UPDATE eventstore.mark SET head = 1e15$$);
-- indexes: one that was not made to its end, and two that an append has passed by
CALL damage($$UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'eventstore.stream_key'::regclass$$);
CALL damage($$UPDATE pg_index SET indisready = false WHERE indexrelid IN ('eventstore.event_log_type'::regclass, 'eventstore.event_log_correlation'::regclass);
    SELECT es_append('Order-1', 'Placed', metadata => '{"correlation_id": "c"}')$$);

-- The format, which is in no transaction: of another one nothing can be said.
SELECT setval('eventstore.format_register', 2);
SELECT * FROM es_check();
SELECT setval('eventstore.format_register', 1);

-- Nothing of it is left.
SELECT * FROM es_check();
