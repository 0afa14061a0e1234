-- What the store keeps besides the log takes rows from the store, and, to restore, from its
-- owner, until the first append.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;
CREATE ROLE regress_keeper;
GRANT INSERT ON ALL TABLES IN SCHEMA eventstore TO regress_keeper;
CREATE FUNCTION outcome(statement text) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN EXECUTE statement; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE TABLE try (n int GENERATED ALWAYS AS IDENTITY, statement text);
INSERT INTO try (statement) VALUES
    ($$INSERT INTO eventstore.hidden VALUES (1, 1, now())$$),
    ($$INSERT INTO eventstore.removed_id VALUES (gen_random_uuid(), 1, 1, 1, 1, now(), '')$$),
    ($$INSERT INTO eventstore.retention VALUES ('Order', 1)$$),
    ($$INSERT INTO eventstore.scavenged VALUES ('Order', 1)$$),
    ($$INSERT INTO eventstore.upcaster VALUES (1, 'T', 1, 'T', 2, 'f', 'me', '', true)$$),
    ($$INSERT INTO eventstore.snapshot VALUES (1, 'k', 1, '1', now())$$),
    ($$INSERT INTO eventstore.projection_progress VALUES (1, 1)$$),
    ($$INSERT INTO eventstore.projection_state VALUES (1, 'k', '1')$$),
    ($$INSERT INTO eventstore.dead_letter (projection_id, position, stream, parks, attempts, failed_at) VALUES (1, 1, 'Order-1', false, 1, now())$$),
    ($$INSERT INTO eventstore.subscription_partition VALUES (1, 1, 1, 1)$$),
    ($$INSERT INTO eventstore.subscription_event (subscription_id, position, partition, stream_key, status, attempts, at) VALUES (1, 1, 1, 1, 'parked', 1, now())$$);
-- None is forgotten that a dump would fill: those of the log have a guard of their own.
SELECT c.oid::regclass AS "not guarded"
FROM unnest((SELECT extconfig FROM pg_extension WHERE extname = 'eventstore')) t (oid)
JOIN pg_class c USING (oid)
WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = 'eventstore_guard' AND g.tgenabled = 'A');
SELECT c.relname
FROM unnest((SELECT extconfig FROM pg_extension WHERE extname = 'eventstore')) t (oid)
JOIN pg_class c USING (oid)
WHERE c.relkind = 'r'
ORDER BY 1;

-- ---- before the first append ----

BEGIN;
SELECT outcome(statement), count(*) FROM try GROUP BY outcome;
SELECT outcome($$INSERT INTO eventstore.subscription SELECT 1, 's', NULL, NULL, 0, 1, '1 s', 1, now()$$);
ROLLBACK;
-- For the owner, not for whoever may insert.
BEGIN;
GRANT SELECT ON try TO regress_keeper;
SET LOCAL ROLE regress_keeper;
SELECT outcome(statement) FROM try ORDER BY n;
ROLLBACK;

-- ---- afterwards ----

SELECT version FROM es_append('Order-1', 'T');
SELECT outcome(statement) FROM try ORDER BY n;
SELECT outcome($$INSERT INTO eventstore.subscription SELECT 1, 's', NULL, NULL, 0, 1, '1 s', 1, now()$$);
COPY eventstore.dead_letter (projection_id, position, stream, parks, attempts, error, sqlstate, failed_at) FROM stdin;
1	1	Order-1	f	1	x	XX000	2026-01-01
\.
INSERT INTO eventstore.dead_letter (projection_id, position, stream, parks, attempts, failed_at) SELECT 1, 1, 'Order-1', false, 1, now() ON CONFLICT DO NOTHING;
MERGE INTO eventstore.retention r USING (VALUES ('Order')) v (name) ON r.name = v.name WHEN NOT MATCHED THEN INSERT VALUES (v.name, 1);
-- Nothing to insert is nothing to refuse.
COPY eventstore.dead_letter (projection_id, position, stream, parks, attempts, error, sqlstate, failed_at) FROM stdin;
\.
SET session_replication_role = replica;
SELECT outcome(statement) FROM try WHERE n = 1;
RESET session_replication_role;
-- Whoever means it.
BEGIN;
SET LOCAL eventstore.restore = on;
SELECT outcome(statement), count(*) FROM try GROUP BY outcome;
SELECT sealed FROM eventstore.status;
ROLLBACK;

-- ---- the store itself ----

CREATE FUNCTION reduce(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(coalesce((state ->> 0)::int, 0) + 1) $$;
CREATE FUNCTION upcast(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data $$;
SELECT es_create_projection('counts', reducer => 'reduce', mode => 'inline', reset => '', start_after => es_head()), es_create_subscription('s'), es_set_retention('Order', 10),
    es_register_upcaster('T', 1, 'upcast'), es_save_snapshot('Order-1', 1, '1'), es_truncate_stream('Order-1', 2);
SELECT count(*) FROM es_append_batch('{Order-1,Order-2}', '{T,T}', '{1,2}');
SELECT position AS p FROM es_fetch('s', 'me', 1) \gset
SELECT es_nack('s', 'me', ARRAY[:p], 'park'), es_scavenge();
SELECT (SELECT count(*) FROM eventstore.projection_states) AS states, (SELECT count(*) FROM eventstore.parked_events) AS parked, (SELECT count(*) FROM eventstore.removed_id) AS ids;
-- Its owner may change and remove what is there.
BEGIN;
UPDATE eventstore.retention SET max_count = 5;
DELETE FROM eventstore.upcaster;
DELETE FROM eventstore.subscription_event;
ROLLBACK;

-- ---- code that it runs ----

-- A trigger of users' on such a table, inside a statement of the store.
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO eventstore.dead_letter VALUES (1, 1, 'Order-1', false, 1, 'x', 'XX000', now()); RETURN NULL; END $$;
CREATE TRIGGER meddle AFTER INSERT OR UPDATE ON eventstore.retention FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT outcome($$SELECT es_set_retention('Order', 20)$$);
SELECT outcome($$SELECT es_set_retention('Cart', 20)$$);
DROP TRIGGER meddle ON eventstore.retention;
-- One that calls the store, which keeps its own, and then goes on by itself.
CREATE OR REPLACE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_create_subscription('made by a trigger');
    RAISE NOTICE '%', outcome('INSERT INTO eventstore.retention VALUES (''Cart'', 1)');
    RETURN NULL;
END $$;
CREATE TRIGGER meddle AFTER INSERT ON try FOR EACH STATEMENT EXECUTE FUNCTION meddle();
INSERT INTO try (statement) VALUES ('x');
SELECT name FROM eventstore.subscriptions ORDER BY name;
-- The code of a projection, with the rights of its owner.
CREATE FUNCTION handle(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO eventstore.retention VALUES ('Cart', 1) $$;
SELECT es_create_projection('handles', 'handle', mode => 'inline', reset => '', start_after => es_head());
SELECT outcome($$SELECT es_append('Order-3', 'T')$$);
SELECT es_drop_projection('handles');
-- After an error nothing is left behind.
SELECT outcome($$SELECT es_set_retention('Order', 20)$$);
SELECT outcome(statement) FROM try WHERE n = 3;
DROP OWNED BY regress_keeper;
DROP ROLE regress_keeper;
