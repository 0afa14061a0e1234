-- Subscriptions: consumers outside the database.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;

-- What a consumer gets, and what the row of its partition says then.
CREATE FUNCTION got(subscription text, consumer text, max_count int DEFAULT 100, wait interval DEFAULT NULL) RETURNS text
    LANGUAGE sql
    AS $$ SELECT coalesce(string_agg(format('%s:%s/%s', position, stream, version), ' '), 'nothing') FROM es_fetch(subscription, consumer, max_count, wait) $$;
CREATE VIEW partitions AS
SELECT partition AS p, checkpoint, pending, held, consumer, leased_until > now() AS leased, batch_limit AS "limit"
FROM eventstore.subscription_partitions
ORDER BY subscription, partition;
CREATE VIEW held AS
SELECT position, status, attempts, not_before IS NOT NULL AS timed, reason, consumer
FROM eventstore.subscription_event
ORDER BY subscription_id, position;

SELECT count(*)
FROM generate_series(1, 8) n, es_append(CASE n % 4 WHEN 1 THEN 'Order-1' WHEN 2 THEN 'Order-2' ELSE 'Customer-1' END, CASE WHEN n < 5 THEN 'Opened' ELSE 'Closed' END, to_jsonb(n));

-- ---- fetch and ack ----

SELECT es_create_subscription('mail');
SELECT position, stream, version, type, schema_version, data, metadata, tags, event_id IS NOT NULL AS id, created_at <= now() AS created
FROM es_fetch('mail', 'anna', 1);
SELECT got('mail', 'anna', 3);
TABLE partitions;
-- The partition is hers: nobody else gets anything, and nobody else can ack.
SELECT got('mail', 'bob');
SELECT es_ack('mail', 'bob', '{1}');
SELECT es_ack('mail', 'bob', '{}');
-- The checkpoint is what nothing is left below of.
SELECT es_ack('mail', 'anna', '{2, 3, 3, 2}');
TABLE partitions;
SELECT es_ack('mail', 'anna', '{1}');
TABLE partitions;
-- Once more: an ack whose answer was lost may be repeated.
SELECT es_ack('mail', 'anna', '{1, 2, 3, 4}');
TABLE partitions;
SELECT es_ack('mail', 'anna', '{1, 2, 3, 4}');
-- Free for all now.
SELECT got('mail', 'bob', 2);
SELECT es_ack('mail', 'anna', '{4}');
SELECT es_ack('mail', 'bob', '{5, 6}');
SELECT got('mail', 'bob', NULL);
SELECT es_ack('mail', 'bob', '{7, 8}');
SELECT got('mail', 'bob');
TABLE partitions;
SELECT checkpoint = es_head() FROM eventstore.subscriptions;

-- ---- filters, and where to begin ----

SELECT es_create_subscription('orders', categories => '{Order}');
SELECT es_create_subscription('closed', types => '{Closed}', start_after => 5);
SELECT es_create_subscription('both', types => '{Closed}', categories => '{Order,Parcel}');
SELECT es_create_subscription('none', types => '{}');
SELECT es_create_subscription('unknown', types => '{Vanished}');
SELECT es_create_subscription('from now on', start_after => es_head());
SELECT name, got(name, 'anna') FROM eventstore.subscriptions ORDER BY name COLLATE "C";
-- Nothing has matched: the checkpoint is the head all the same.
SELECT name, checkpoint, lag, lag_seconds = 0 AS fresh, pending, held, parked, consumers, types, categories, ack_timeout, max_retries
FROM eventstore.subscriptions ORDER BY name COLLATE "C";
SELECT es_drop_subscription(name) FROM eventstore.subscriptions;
SELECT (SELECT count(*) FROM eventstore.subscription_partition) AS partitions, (SELECT count(*) FROM eventstore.subscription_event) AS events;

-- ---- partitions ----

-- Streams are dealt out to partitions; the events of a partition go to one consumer at
-- a time, in order.  Who waits longest comes first.
SELECT es_create_subscription('shared', partitions => 3);
SELECT got('shared', 'anna', 1);
SELECT got('shared', 'bob', 1);
SELECT got('shared', 'carl');
TABLE partitions;
-- What anna has first is hers to go on with.
SELECT got('shared', 'anna', 2);
SELECT got('shared', 'bob');
SELECT got('shared', 'anna');
SELECT es_ack('shared', 'anna', array[1, 5]);
TABLE partitions;
-- An ack for several partitions at once is right for all or for none.
SELECT es_ack('shared', 'carl', array[1, 2, 3]);
SELECT es_ack('shared', 'bob', array(SELECT generate_series(1, 8)));
TABLE partitions;
SELECT es_drop_subscription('shared');

-- Many partitions with few events each: one fetch takes as many as it needs.
SELECT es_create_subscription('wide', partitions => 1024);
SELECT count(*) FROM generate_series(1, 300) n, es_append('Wide-' || n % 100, 'Spread', to_jsonb(n));
SELECT es_seek_subscription('wide', 8);
SELECT count(*), count(DISTINCT stream) > 80 AS "of many streams", count(*) = count(DISTINCT position) AS once FROM es_fetch('wide', 'anna', 250);
SELECT count(*) FROM es_fetch('wide', 'bob', 250);
SELECT sum(pending), count(DISTINCT consumer), count(consumer) > 80 AS leased FROM eventstore.subscription_partitions;
SELECT pg_get_viewdef('eventstore.subscription_partitions'::regclass) ~ 'ORDER BY s.name, p.partition;$' AS ordered;
SELECT consumers, pending FROM eventstore.subscriptions;
SELECT es_ack('wide', 'anna', (SELECT array_agg(position) FROM eventstore.events e WHERE es_category(stream) = 'Wide' AND EXISTS (SELECT FROM eventstore.subscription_partition p WHERE p.consumer = 'anna' AND e.position = ANY (p.pending))));
SELECT es_ack('wide', 'bob', (SELECT array_agg(u) FROM eventstore.subscription_partition, unnest(pending) u));
SELECT es_ack('wide', 'carl', array_agg(position)) FROM es_fetch('wide', 'carl');
SELECT count(*) FROM es_fetch('wide', 'carl');
SELECT checkpoint = es_head() AS done, pending, held FROM eventstore.subscriptions;
SELECT es_drop_subscription('wide');

-- ---- what cannot be handled ----

SELECT es_create_subscription('mail', max_retries => 2, start_after => 0, categories => '{Order,Customer}');
SELECT got('mail', 'anna', 6);
-- Retry: what anna has of later events of the stream is taken back.
SELECT es_nack('mail', 'anna', '{1}', reason => 'mailbox full');
UPDATE eventstore.subscription_event SET not_before = 'infinity' WHERE status = 'retry'; -- for this test to be slow
TABLE held;
TABLE partitions;
-- She may have handled it already: it is not counted, and comes again.
SELECT es_ack('mail', 'anna', '{2, 5, 1}');
-- Later events of the stream wait, those of other streams do not.
SELECT count(*) FROM es_append('Order-1', 'Closed', '9') a, es_append('Order-2', 'Closed', '10') b;
SELECT got('mail', 'anna');
TABLE held;
SELECT es_ack('mail', 'anna', (SELECT pending FROM eventstore.subscription_partition));
TABLE partitions;
-- It comes again when it is due, and what waits behind it.
UPDATE eventstore.subscription_event SET not_before = clock_timestamp() + interval '50 ms' WHERE status = 'retry';
SELECT got('mail', 'bob', wait => '10 s');
TABLE partitions;
SELECT es_nack('mail', 'bob', '{1}', 'retry', 'still full');
TABLE held;
SELECT got('mail', 'bob', 1, wait => '10 s');
-- Too often now.  Later events go on without it.
SELECT es_nack('mail', 'bob', '{1}');
TABLE held;
SELECT subscription, position, stream, type, attempts, reason, consumer, parked_at <= now() AS parked FROM eventstore.parked_events;
SELECT got('mail', 'bob', 1);
TABLE partitions;
-- At once, and not at all.
SELECT es_nack('mail', 'bob', '{5}', 'park', 'no such address');
SELECT got('mail', 'bob');
SELECT es_nack('mail', 'bob', '{309}', 'skip', 'who cares');
TABLE held;
TABLE partitions;
SELECT position, attempts, reason FROM eventstore.parked_events ORDER BY position;
SELECT parked, held, pending FROM eventstore.subscriptions;
-- All of them once more.
SELECT es_replay_parked('mail');
SELECT es_replay_parked('mail');
TABLE held;
TABLE partitions;
SELECT got('mail', 'anna', 1);
SELECT got('mail', 'anna');
SELECT es_nack('mail', 'anna', '{1, 5}', 'park');
SELECT es_nack('mail', 'anna', '{}', 'park');
-- Parked ones stay when the subscription is set back: they are delivered like others.
SELECT es_seek_subscription('mail', 4);
SELECT got('mail', 'anna', 2);
SELECT es_replay_parked('mail');
TABLE held;
SELECT es_ack('mail', 'anna', '{5, 6}');
SELECT got('mail', 'anna', 1);
TABLE held;
-- With a replay of what is still ahead.
SELECT es_nack('mail', 'anna', '{1}', 'park');
SELECT es_seek_subscription('mail', 0);
SELECT es_replay_parked('mail');
TABLE held;
SELECT got('mail', 'anna', 3);
SELECT es_drop_subscription('mail');

-- What is due comes first, and does not keep back a partition that is further behind.
SELECT es_create_subscription('mail', partitions => 3, categories => '{Order,Customer}');
SELECT got('mail', 'anna', 6);
SELECT es_nack('mail', 'anna', '{1}'), es_ack('mail', 'anna', '{3, 4, 7, 8}');
UPDATE eventstore.subscription_event SET not_before = clock_timestamp() WHERE status = 'retry';
SELECT got('mail', 'anna');
SELECT es_drop_subscription('mail');

-- ---- leases ----

-- A lease that is not renewed in time goes to whoever comes; what was pending is handed
-- out again, half as many at once.
SELECT es_create_subscription('lease', ack_timeout => '50 ms', max_retries => 1, categories => '{Order,Customer}');
SELECT got('lease', 'anna', 6);
SELECT got('lease', 'bob', wait => '10 s');
SELECT checkpoint, pending, held, consumer, "limit" FROM partitions;
TABLE held;
SELECT es_ack('lease', 'anna', '{1}');
SELECT es_nack('lease', 'anna', '{1}');
SELECT got('lease', 'carl', wait => '10 s');
SELECT checkpoint, pending, held, consumer, "limit" FROM partitions;
-- The same name, started anew: it does not get them before the lease has expired.
SELECT got('lease', 'carl', wait => '10 s') AS first, count(*) FROM held;
SELECT got('lease', 'carl', wait => '10 s');
-- It is this one: alone, and gone in the end.
TABLE held;
SELECT checkpoint, pending, held, consumer, "limit" FROM partitions;
SELECT got('lease', 'anna', wait => '10 s');
TABLE held;
SELECT position, attempts, reason, consumer FROM eventstore.parked_events;
-- An expired lease that nobody has taken is still her own.
SELECT pg_sleep(0.06);
SELECT es_alter_subscription('lease', ack_timeout => '1 h');
SELECT leased_until < now() AS expired FROM eventstore.subscription_partitions;
SELECT es_ack('lease', 'anna', '{}');
SELECT leased_until > now() + interval '50 min' AS renewed FROM eventstore.subscription_partitions;
SELECT got('lease', 'bob');
-- With each batch that is acked the batches grow again.
SELECT es_ack('lease', 'anna', '{2}');
SELECT "limit" FROM partitions;
SELECT got('lease', 'anna');
SELECT es_ack('lease', 'anna', '{3}');
SELECT "limit" FROM partitions;
SELECT es_ack('lease', 'anna', '{4}');
SELECT "limit" FROM partitions;
SELECT got('lease', 'anna');
TABLE held;
-- A fetch while something is pending does not renew the lease; an ack does.
SELECT es_ack('lease', 'anna', '{5, 6}');
SELECT got('lease', 'anna', 1);
CREATE TABLE lease AS SELECT leased_until FROM eventstore.subscription_partitions;
SELECT got('lease', 'anna', 1);
SELECT p.leased_until = l.leased_until AS unchanged FROM eventstore.subscription_partitions p, lease l;
SELECT es_nack('lease', 'anna', '{}');
SELECT p.leased_until > l.leased_until AS renewed FROM eventstore.subscription_partitions p, lease l;
DROP TABLE lease;
SELECT es_drop_subscription('lease');

-- Batches that travel alone: of two partitions whose leases have expired, each comes by
-- itself.
SELECT es_create_subscription('lease', partitions => 3, ack_timeout => '1 ms', categories => '{Order,Customer}');
SELECT got('lease', 'anna');
SELECT pg_sleep(0.01);
SELECT es_alter_subscription('lease', ack_timeout => '1 h');
SELECT got('lease', 'bob');
SELECT checkpoint, pending, held, consumer, "limit" FROM partitions;
SELECT got('lease', 'carl');
SELECT got('lease', 'carl');
SELECT es_drop_subscription('lease');

-- ---- seek, alter, drop ----

SELECT es_create_subscription('seek');
SELECT got('seek', 'anna', 3);
SELECT es_nack('seek', 'anna', '{1}');
SELECT es_seek_subscription('seek', 6);
TABLE partitions;
TABLE held;
SELECT es_ack('seek', 'anna', '{2}');
SELECT got('seek', 'anna', 1);
SELECT es_ack('seek', 'anna', '{2}');
SELECT es_seek_subscription('seek', 1);
SELECT got('seek', 'bob', 2);
SELECT es_seek_subscription('seek', es_head());
SELECT got('seek', 'bob', 2);
SELECT es_seek_subscription('seek', 1000000);
SELECT es_alter_subscription('seek');
SELECT es_alter_subscription('seek', '1 minute', 7);
SELECT ack_timeout, max_retries FROM eventstore.subscriptions;
SELECT es_create_subscription('seek', partitions => 5, if_not_exists => true);
SELECT es_create_subscription('seek', partitions => 5);
SELECT name, partitions FROM eventstore.subscriptions;
-- One that is ahead of the log came from another one.
UPDATE eventstore.subscription_partition SET delivered = 1000000;
SELECT got('seek', 'bob');
\echo :SQLSTATE
SELECT es_drop_subscription('seek');
SELECT es_drop_subscription('seek');

-- ---- transactions ----

-- A fetch and an ack belong to the caller's transaction.
SELECT es_create_subscription('tx');
BEGIN;
SELECT got('tx', 'anna', 2);
SAVEPOINT a;
SELECT got('tx', 'anna', 2);
SELECT es_ack('tx', 'anna', '{1, 2}');
TABLE partitions;
ROLLBACK TO a;
TABLE partitions;
SELECT es_ack('tx', 'anna', '{3}');
ROLLBACK TO a;
SELECT got('tx', 'anna', 1);
COMMIT;
TABLE partitions;
BEGIN;
SELECT es_ack('tx', 'anna', '{1, 2, 3}');
SELECT got('tx', 'bob', 2);
ROLLBACK;
TABLE partitions;
-- Exactly once, where the effect is in this database.
CREATE TABLE done (position bigint PRIMARY KEY);
WITH events AS (SELECT position FROM es_fetch('tx', 'anna', 2)), effect AS (INSERT INTO done SELECT position FROM events RETURNING position)
SELECT es_ack('tx', 'anna', array_agg(position)) FROM effect;
TABLE done;
BEGIN;
SELECT es_nack('tx', 'anna', '{1}');
ROLLBACK;
TABLE held;
SELECT es_ack('tx', 'anna', '{1, 2, 3}');
-- REPEATABLE READ: all as of the snapshot, but for the events.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT got('tx', 'anna', 1);
SELECT es_nack('tx', 'anna', '{6}', 'park');
SELECT got('tx', 'anna', 1);
SELECT es_ack('tx', 'anna', '{7}');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT got('tx', 'anna', 1);
SELECT es_ack('tx', 'anna', '{8}');
COMMIT;
TABLE partitions;
BEGIN READ ONLY;
SELECT es_fetch('tx', 'anna');
ROLLBACK;
-- One's own events are not there before the commit; to wait for them would never end.
BEGIN;
SELECT es_seek_subscription('tx', es_head());
SELECT version FROM es_append('Mine-1', 'Made');
SELECT got('tx', 'anna');
SELECT got('tx', 'anna', wait => '10 s');
ROLLBACK;
-- Nor does one wait long for nothing.
SELECT es_seek_subscription('tx', es_head());
SELECT got('tx', 'anna', wait => '20 ms');
SELECT got('tx', 'anna', wait => '0 s');
SELECT es_drop_subscription('tx');

-- A fetch writes one row, an ack too, and neither touches an index.
SELECT es_create_subscription('hot');
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        PERFORM es_ack('hot', 'anna', array_agg(position)) FROM es_fetch('hot', 'anna', 3);
        COMMIT;
    END LOOP;
END $$;
SELECT pg_stat_force_next_flush();
SELECT checkpoint FROM partitions;
SELECT count(*) FROM eventstore.subscription_event WHERE status <> 'parked';
SELECT n_tup_hot_upd > 200 AND n_tup_upd - n_tup_hot_upd < 10 AS hot FROM pg_stat_user_tables WHERE relid = 'eventstore.subscription_partition'::regclass;
SELECT es_drop_subscription('hot');

-- ---- who is the code of a projection ----

SELECT es_create_subscription('s');
CREATE FUNCTION meddle(event es_event) RETURNS void LANGUAGE sql AS $$ SELECT es_fetch('s', 'handler') $$;
SELECT es_create_projection('meddles', 'meddle', mode => 'inline', reset => '', start_after => es_head());
SELECT version FROM es_append('Order-1', 'Placed');
\echo :SQLSTATE
SELECT es_drop_projection('meddles');

-- ---- what is refused ----

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT n, outcome(statement) FROM (VALUES
    (1, $$SELECT es_create_subscription(NULL)$$),
    (2, $$SELECT es_create_subscription('')$$),
    (3, $$SELECT es_create_subscription('-x')$$),
    (4, $$SELECT es_create_subscription(repeat('x', 256))$$),
    (5, $$SELECT es_create_subscription('a', types => '{NULL}')$$),
    (6, $$SELECT es_create_subscription('a', types => '{""}')$$),
    (7, $$SELECT es_create_subscription('a', types => '{{A,B},{C,D}}')$$),
    (8, $$SELECT es_create_subscription('a', categories => '{-a}')$$),
    (9, $$SELECT es_create_subscription('a', start_after => NULL)$$),
    (10, $$SELECT es_create_subscription('a', start_after => -1)$$),
    (11, $$SELECT es_create_subscription('a', start_after => 9223372036854775807)$$),
    (12, $$SELECT es_create_subscription('a', partitions => NULL)$$),
    (13, $$SELECT es_create_subscription('a', partitions => 0)$$),
    (14, $$SELECT es_create_subscription('a', partitions => 1025)$$),
    (15, $$SELECT es_create_subscription('a', ack_timeout => NULL)$$),
    (16, $$SELECT es_create_subscription('a', ack_timeout => '0 s')$$),
    (17, $$SELECT es_create_subscription('a', ack_timeout => '-1 s')$$),
    (18, $$SELECT es_create_subscription('a', ack_timeout => '999 us')$$),
    (19, $$SELECT es_create_subscription('a', ack_timeout => '1 day 1 us')$$),
    (20, $$SELECT es_create_subscription('a', ack_timeout => '1 month -30 days')$$),
    (21, $$SELECT es_create_subscription('a', ack_timeout => '-2147483648 days')$$),
    (22, $$SELECT es_create_subscription('a', ack_timeout => '9223372036854775807 us')$$),
    (23, $$SELECT es_create_subscription('a', max_retries => NULL)$$),
    (24, $$SELECT es_create_subscription('a', max_retries => -1)$$),
    (25, $$SELECT es_create_subscription('a', max_retries => 1001)$$),
    (26, $$SELECT es_create_subscription('a', if_not_exists => NULL)$$),
    (27, $$SELECT es_alter_subscription(NULL)$$),
    (28, $$SELECT es_alter_subscription('a')$$),
    (29, $$SELECT es_alter_subscription('s', '2 days')$$),
    (30, $$SELECT es_alter_subscription('s', max_retries => -1)$$),
    (31, $$SELECT es_seek_subscription(NULL, 0)$$),
    (32, $$SELECT es_seek_subscription('a', 0)$$),
    (33, $$SELECT es_seek_subscription('s', NULL)$$),
    (34, $$SELECT es_seek_subscription('s', -1)$$),
    (35, $$SELECT es_drop_subscription(NULL)$$),
    (36, $$SELECT es_replay_parked(NULL)$$),
    (37, $$SELECT es_replay_parked('a')$$),
    (38, $$SELECT es_fetch(NULL, 'anna')$$),
    (39, $$SELECT es_fetch('a', 'anna')$$),
    (40, $$SELECT es_fetch('s', NULL)$$),
    (41, $$SELECT es_fetch('s', '')$$),
    (42, $$SELECT es_fetch('s', E'\n')$$),
    (43, $$SELECT es_fetch('s', 'anna', -1)$$),
    (44, $$SELECT es_fetch('s', 'anna', 0)$$),
    (45, $$SELECT es_fetch('s', 'anna', wait => '-1 s')$$),
    (46, $$SELECT es_fetch('s', 'anna', wait => '61 s')$$)) v(n, statement) ORDER BY n;
SELECT got('s', 'anna', 2);
SELECT n, outcome(statement) FROM (VALUES
    (1, $$SELECT es_ack(NULL, 'anna', '{}')$$),
    (2, $$SELECT es_ack('a', 'anna', '{}')$$),
    (3, $$SELECT es_ack('s', NULL, '{}')$$),
    (4, $$SELECT es_ack('s', '', '{}')$$),
    (5, $$SELECT es_ack('s', 'anna', NULL)$$),
    (6, $$SELECT es_ack('s', 'anna', '{1,NULL}')$$),
    (7, $$SELECT es_ack('s', 'anna', '{{1,2}}')$$),
    (8, $$SELECT es_ack('s', 'anna', '{1,3}')$$),
    (9, $$SELECT es_ack('s', 'anna', '{1,9223372036854775807}')$$),
    (10, $$SELECT es_ack('s', 'anna', '{0,-9223372036854775808}')$$),
    (11, $$SELECT es_nack(NULL, 'anna', '{}')$$),
    (12, $$SELECT es_nack('a', 'anna', '{}')$$),
    (13, $$SELECT es_nack('s', NULL, '{}')$$),
    (14, $$SELECT es_nack('s', 'anna', NULL)$$),
    (15, $$SELECT es_nack('s', 'anna', '{1}', NULL)$$),
    (16, $$SELECT es_nack('s', 'anna', '{1}', 'Retry')$$),
    (17, $$SELECT es_nack('s', 'anna', '{3}', 'park')$$),
    (18, $$SELECT es_nack('s', 'bob', '{1}', 'skip')$$)) v(n, statement) ORDER BY n;
-- All of this has changed nothing.
TABLE partitions;
TABLE held;
SELECT es_ack('s', 'anna', '[5:6]={1,2}');
SELECT es_drop_subscription('s');

-- ---- the life of a stream ----

-- What is taken away from a stream is not handed out, nor handed out again.
SELECT count(*) FROM generate_series(1, 6) n, es_append('Short-' || n % 2, 'Said', to_jsonb(n));
SELECT es_create_subscription('life', categories => '{Short}', ack_timeout => '1 h');
SELECT got('life', 'anna', 4);
SELECT es_nack('life', 'anna', array_agg(position)) FROM eventstore.events WHERE stream = 'Short-1' AND version = 1;
SELECT es_truncate_stream('Short-1', 3);
SELECT es_delete_stream('Short-0');
-- What she has she has.
SELECT es_ack('life', 'anna', (SELECT pending FROM eventstore.subscription_partition));
UPDATE eventstore.subscription_event SET not_before = clock_timestamp() WHERE status = 'retry';
SELECT got('life', 'anna');
SELECT es_ack('life', 'anna', (SELECT pending FROM eventstore.subscription_partition));
SELECT count(*) FROM es_append('Short-0', 'Said');
SELECT got('life', 'anna');
SELECT es_ack('life', 'anna', (SELECT pending FROM eventstore.subscription_partition));
SELECT got('life', 'anna');
SELECT checkpoint = es_head() AS done, pending, held FROM eventstore.subscriptions;
TABLE held;
SELECT es_scavenge() >= 0 AS scavenged;
-- Of what is parked the parked events tell, until it has been replayed, or removed.
SELECT es_seek_subscription('life', 0);
SELECT got('life', 'anna', 1);
SELECT es_nack('life', 'anna', (SELECT pending FROM eventstore.subscription_partition), 'park', 'why');
SELECT es_delete_stream('Short-1');
SELECT stream, reason FROM eventstore.parked_events;
SELECT es_scavenge() >= 0 AS scavenged;
SELECT stream, reason FROM eventstore.parked_events;
SELECT es_replay_parked('life');
SELECT got('life', 'anna');
TABLE held;
SELECT es_drop_subscription('life');

-- Events come upcast, and are known by the type that they are shown with.
CREATE FUNCTION shout(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT to_jsonb(upper(data #>> '{}')) $$;
SELECT es_register_upcaster('Whispered', 1, 'shout', 'Shouted', 2);
SELECT version FROM es_append('Voice-1', 'Whispered', '"hear me"');
SELECT es_create_subscription('voice', types => '{Shouted}');
SELECT stream, type, schema_version, data FROM es_fetch('voice', 'anna');

-- ---- rows that are missing ----

SELECT es_create_subscription('torn', partitions => 2);
DELETE FROM eventstore.subscription_partition p USING eventstore.subscription s WHERE s.name = 'torn' AND p.subscription_id = s.subscription_id AND p.partition = 0;
SELECT outcome($$SELECT es_fetch('torn', 'anna')$$);
SELECT es_drop_subscription('torn');


-- ---- an upcaster that fails ----

-- Is a delivery that has failed: that event is parked in the end, the others go on.
CREATE FUNCTION upcast_odd(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE plpgsql
    AS $$ BEGIN IF (data ->> 'n')::int = 2 THEN RAISE 'not 2'; END IF; RETURN data || '{"new": true}'; END $$;
SELECT es_register_upcaster('Odd', 1, 'upcast_odd');
SELECT es_create_subscription('odd', types => '{Odd}', start_after => es_head(), max_retries => 0);
SELECT count(*) FROM es_append_batch('{Odd-1,Odd-2,Odd-1}', '{Odd,Odd,Odd}', '{"{\"n\": 1}","{\"n\": 2}","{\"n\": 3}"}');
SELECT stream, version, schema_version, data FROM es_fetch('odd', 'me');
SELECT stream, attempts, reason, consumer FROM eventstore.parked_events WHERE subscription = 'odd';
-- With a better one it is handed out after all.
CREATE OR REPLACE FUNCTION upcast_odd(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || '{"new": true}' $$;
SELECT es_replay_parked('odd');
SELECT stream, version, schema_version, data FROM es_fetch('odd', 'me');
-- A fetch that is cancelled is cancelled, and no event is to blame.
CREATE OR REPLACE FUNCTION upcast_odd(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data FROM pg_sleep(60) $$;
SELECT es_create_subscription('slow', types => '{Odd}', start_after => es_head() - 3, max_retries => 0);
SET statement_timeout = '100ms';
SELECT count(*) FROM es_fetch('slow', 'me');
RESET statement_timeout;
SELECT count(*) FROM eventstore.parked_events WHERE subscription = 'slow';


-- ---- the lag, and why ----

-- It is in events that it has to hand out, or has handed out and not seen acked.
CREATE VIEW lags AS
SELECT name, lag, lag_capped AS capped, lag_seconds > 3000 AS old, pending, held, reason
FROM eventstore.subscriptions WHERE name LIKE 'lag %' ORDER BY name COLLATE "C";
SELECT es_create_subscription('lag all', start_after => es_head()), es_create_subscription('lag few', types => '{Few}', start_after => es_head(), partitions => 3),
    es_create_subscription('lag none', types => '{Vanished}', start_after => es_head());
TABLE lags;
SELECT count(*) FROM es_append_batch('{Lag-1, Lag-2, Lag-3, Lag-4, Lag-1, Lag-1}', '{Few, Few, Few, Few, Few, Many}', array_fill(jsonb '{}', '{6}'), created_at => array_fill(now() - interval '1 hour', '{6}'));
TABLE lags;
SELECT count(*) FROM es_fetch('lag few', 'anna', 1);
TABLE lags;
SELECT partition, lag, lag_capped AS capped, lag_seconds > 3000 AS old, pending FROM eventstore.subscription_partitions WHERE subscription = 'lag few' ORDER BY partition;
SELECT es_nack('lag few', 'anna', pending, 'retry') FROM eventstore.subscription_partition JOIN eventstore.subscription USING (subscription_id) WHERE name = 'lag few' AND pending <> '{}';
UPDATE eventstore.subscription_event SET not_before = '2100-01-01 12:00' WHERE status = 'retry';
TABLE lags;
SELECT partition, lag, held FROM eventstore.subscription_partitions WHERE subscription = 'lag few' ORDER BY partition;
-- When nothing else is left, it waits for that.
SELECT count(*) FROM es_fetch('lag few', 'anna');
SELECT count(es_ack('lag few', 'anna', pending)) FROM eventstore.subscription_partition JOIN eventstore.subscription USING (subscription_id) WHERE name = 'lag few' AND pending <> '{}';
TABLE lags;
-- Parked is given up.
SELECT count(*) FROM es_fetch('lag all', 'anna', 2);
SELECT es_nack('lag all', 'anna', pending, 'park') FROM eventstore.subscription_partition JOIN eventstore.subscription USING (subscription_id) WHERE name = 'lag all';
SELECT count(*) FROM es_fetch('lag all', 'anna', 2);
TABLE lags;
UPDATE eventstore.subscription_partition SET leased_until = now() WHERE leased_until IS NOT NULL;
TABLE lags;
-- Whoever does not ask for it does not pay for it.
CREATE FUNCTION plan_of(statement text) RETURNS SETOF text
    LANGUAGE plpgsql
    AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || statement; END $$;
SELECT bool_or(line LIKE '%subscription_lag%') AS counts FROM plan_of('SELECT name, checkpoint, pending, parked FROM eventstore.subscriptions') line;
SELECT bool_or(line LIKE '%subscription_lag%') AS counts FROM plan_of('SELECT reason FROM eventstore.subscriptions') line;
SELECT count(es_drop_subscription(name)) FROM lags;


-- ---- what users add to the tables ----

-- Works as with UPDATE, though no statement runs underneath.
CREATE TABLE audited (what text, by name);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO public.audited VALUES (format('%s pending, %s', cardinality(NEW.pending), NEW.consumer), current_user); RETURN NULL; END $$;
ALTER TABLE eventstore.subscription_partition ADD npending int GENERATED ALWAYS AS (cardinality(pending)) STORED, ADD note text DEFAULT 'mine';
CREATE INDEX ON eventstore.subscription_partition (npending);
CREATE TRIGGER audit AFTER UPDATE ON eventstore.subscription_partition FOR EACH ROW EXECUTE FUNCTION audit();
SELECT es_create_subscription('audited', types => '{Audited}');
SELECT count(*) FROM es_append_batch('{Audit-1,Audit-1,Audit-1}', '{Audited,Audited,Audited}', '{1,2,3}');
CREATE ROLE regress_auditor;
GRANT EXECUTE ON FUNCTION es_fetch, es_ack TO regress_auditor;
SET ROLE regress_auditor;
SELECT es_ack('audited', 'me', ARRAY[min(position)]) FROM es_fetch('audited', 'me', 2);
RESET ROLE;
DROP OWNED BY regress_auditor;
DROP ROLE regress_auditor;
TABLE audited;
SELECT npending, note FROM eventstore.subscription_partition JOIN eventstore.subscription USING (subscription_id) WHERE name = 'audited';
-- What does not fit is refused, and nothing is handed out.
ALTER TABLE eventstore.subscription_partition ADD CHECK (npending < 2) NOT VALID;
SELECT outcome($$SELECT position FROM es_fetch('audited', 'me', 2)$$);
SELECT npending FROM eventstore.subscription_partition JOIN eventstore.subscription USING (subscription_id) WHERE name = 'audited';
