-- What one is told who declares a projection or a subscription: types that no event has,
-- and in what it is not the one that is there already.

CREATE EXTENSION eventstore;
CREATE FUNCTION pass(event es_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION pass_too(event es_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION keep(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS 'SELECT state';

-- ---- types that no event has ----

-- In a store that has not seen an event there is nothing to compare a type with.
SELECT es_create_projection('first', 'pass', types => '{OrderPlaced}');
SELECT es_create_subscription('first', filter => '[{"types": ["OrderPlaced"]}]');

-- A misspelt type is no error, for its events may come yet; but it is told.
SELECT count(*) FROM es_append_batch(ARRAY['Order-1', 'Order-1'], ARRAY['OrderPlaced', 'OrderShipped'], ARRAY['{}', '{}']::jsonb[]);
SELECT es_create_projection('known', 'pass', types => '{OrderPlaced,OrderShipped}');
SELECT es_create_projection('one', 'pass', types => '{OrderPlaced,OrderShiped}');
SELECT es_create_projection('inline', 'pass', mode => 'inline', types => '{OrderShiped}');
SELECT es_create_subscription('one', types => '{OrderShiped}');
-- Each once, in one message.
SELECT es_create_projection('several', 'pass', types => '{orderplaced,OrderShiped,OrderPlaced,OrderShiped,orderplaced}');
SELECT es_create_subscription('several', types => '{orderplaced,OrderShiped,OrderPlaced,OrderShiped}');
-- No more than twenty by name.
SELECT es_create_subscription('many', types => array_agg('T' || n ORDER BY n)) FROM generate_series(10, 29) n;
SELECT es_create_subscription('more', types => array_agg('T' || n ORDER BY n)) FROM generate_series(10, 30) n;

-- So are the types of a filter's items.
SELECT es_create_projection('items', 'pass', filter => '[{"types": ["OrderPlaced", "B"]}, {"tags": ["A"]}, {"types": ["A", "B"], "tags": ["C"]}]');
SELECT es_create_subscription('items', filter => '[{"types": ["A"]}]');
SELECT es_create_subscription('tags', filter => '[{"tags": ["A"]}, {"types": null}]');

-- Without types nothing is told; categories are not looked at.
SELECT es_create_projection('all', 'pass', types => NULL);
SELECT es_create_subscription('other', categories => '{Odrer}');
-- An empty list takes nothing: that is told.
SELECT es_create_projection('none', 'pass', types => '{}');
SELECT es_create_subscription('none', categories => '{}');

-- Nor where nothing is made: what no event can have is an error, and so is a name that is taken.
SELECT es_create_projection('null', 'pass', types => '{OrderShiped,NULL}');
\echo :SQLSTATE
SELECT es_create_subscription('empty', types => '{OrderShiped,""}');
\echo :SQLSTATE
SELECT es_create_subscription('long', types => ARRAY['OrderShiped', repeat('x', 256)]);
\echo :SQLSTATE
SELECT es_create_projection('ahead', 'pass', types => '{OrderShiped}', start_after => 1000);
\echo :SQLSTATE
SELECT es_create_projection('one', 'pass', types => '{OrderShiped}');
\echo :SQLSTATE

-- A type that upcasters make is known, whether its events are there yet or not.
CREATE FUNCTION same(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
SELECT es_register_upcaster('OrderPlaced', 1, 'same', 'OrderCreated', 1);
SELECT es_create_projection('made', 'pass', types => '{OrderCreated}');
SELECT es_create_subscription('made', filter => '[{"types": ["OrderCreated", "OrderCeated"]}]');

-- Own events count before they are committed, in every isolation level; those that were rolled back do not.
BEGIN;
SELECT version FROM es_append('Order-2', 'OrderPaid');
SELECT es_create_projection('own', 'pass', types => '{OrderPaid}');
SAVEPOINT a;
SELECT version FROM es_append('Order-2', 'OrderBilled');
ROLLBACK TO a;
SELECT es_create_subscription('own', types => '{OrderPaid,OrderBilled}');
ROLLBACK;
SELECT es_create_subscription('own', types => '{OrderPaid}');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version FROM es_append('Order-2', 'OrderBilled');
SELECT es_create_subscription('own in serializable', types => '{OrderPaid,OrderBilled}');
ROLLBACK;
-- Looking for a type is no reason for a transaction with a new one to fail: it leaves no predicate lock.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT es_create_subscription('no lock', types => '{OrderPaid}');
SELECT count(*) FROM pg_locks
WHERE mode = 'SIReadLock' AND (relation = 'eventstore.event_type'::regclass OR
    relation IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'eventstore.event_type'::regclass));
ROLLBACK;

-- What the table of types holds is not told to a role that may not read it.
CREATE ROLE declare_blind;
GRANT EXECUTE ON FUNCTION es_create_subscription, es_create_projection TO declare_blind;
SET ROLE declare_blind;
SELECT es_create_subscription('blind', types => '{OrderShiped}');
RESET ROLE;
GRANT SELECT ON eventstore.event_type TO declare_blind;
SET ROLE declare_blind;
SELECT es_create_subscription('seeing', types => '{OrderShiped}');
RESET ROLE;
ALTER TABLE eventstore.event_type ENABLE ROW LEVEL SECURITY;
SET ROLE declare_blind;
SELECT es_create_subscription('blind again', types => '{OrderShiped}');
RESET ROLE;
ALTER TABLE eventstore.event_type DISABLE ROW LEVEL SECURITY;

-- A type is known after its events are gone.
SELECT es_delete_stream('Order-1');
SELECT es_create_subscription('gone', types => '{OrderShipped}');

-- ---- the one that is there ----

-- if_not_exists leaves a projection as it is, and names the arguments in which it is another.
SELECT es_create_projection('p', 'pass', types => '{A,B}', categories => '{Order}', start_after => 1, reset => 'SELECT 1');
SELECT es_create_projection('p', 'pass', types => '{A,B}', categories => '{Order}', start_after => 1, reset => 'SELECT 1', if_not_exists => true);
CREATE FUNCTION again(VARIADIC changed text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    arguments jsonb := '{"handler": "pass", "types": "{A,B}", "categories": "{Order}", "start_after": "1", "reset": "SELECT 1"}';
BEGIN
    arguments := jsonb_strip_nulls(arguments || jsonb_object(changed));
    EXECUTE 'SELECT es_create_projection(''p'', if_not_exists => true, ' ||
        (SELECT string_agg(format('%s => %L', key, value), ', ') FROM jsonb_each_text(arguments)) || ')';
END $$;
SELECT again('handler', 'pass');
SELECT again('handler', 'public.pass');
SELECT again('handler', 'PUBLIC . Pass');
SELECT again('handler', format('%I.public.pass', current_database()));
SELECT again('handler', 'pass_too');
SELECT again('handler', '"Pass"');
SELECT again('handler', 'pg_catalog.pass');
SELECT again('handler', NULL, 'reducer', 'keep');
SELECT again('handler', NULL, 'query', 'SELECT FROM es_batch');
SELECT again('mode', 'inline');
SELECT again('types', '{B,A,B}');
SELECT again('types', '{A}');
SELECT again('types', '{}');
SELECT again('types', NULL);
SELECT again('categories', '{Order,Order}');
SELECT again('categories', '{Order,""}');
SELECT again('types', NULL, 'categories', NULL, 'filter', '[{}]');
SELECT again('partition_by', 'category');
SELECT again('start_after', '0');
SELECT again('batch_size', '1');
SELECT again('on_error', 'park');
SELECT again('max_retries', '4');
SELECT again('reset', 'SELECT 2');
SELECT again('reset', NULL);
SELECT again('mode', 'inline', 'types', '{C}', 'categories', '{C}', 'partition_by', 'all', 'start_after', '2', 'batch_size', '1',
    'on_error', 'skip', 'max_retries', '0', 'reset', NULL, 'handler', 'pass_too');
SELECT code, mode, types, categories FROM eventstore.projections WHERE name = 'p';

-- Code is not analysed for that: what does not exist, or could not be a projection's, is other code.
SELECT again('handler', 'missing');
SELECT again('handler', 'missing.pass');
SELECT again('handler', 'elsewhere.public.pass');
SELECT again('handler', 'a.b.c.d');
SELECT again('handler', 'not a name');
SELECT again('handler', '');
SELECT again('handler', NULL, 'query', 'SELECT FROM missing');
SELECT again('reset', 'SELEC');
CREATE FUNCTION pass_many(event es_event) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
SELECT again('handler', 'pass_many');
-- But arguments must be valid.
SELECT again('mode', 'both');
SELECT again('batch_size', '0');

-- A handler is the one that the search_path finds; what a new projection would take from the session is compared, too.
CREATE SCHEMA other;
CREATE FUNCTION other.pass(event es_event) RETURNS void LANGUAGE sql AS '';
SET search_path = other, public;
SELECT again('handler', 'pass');
SELECT again('handler', 'public.pass');
RESET search_path;
CREATE ROLE declare_other SUPERUSER;
SET ROLE declare_other;
SELECT again('mode', 'async');
RESET ROLE;

-- It is compared as it has become.
SELECT es_alter_projection('p', batch_size => 7);
SELECT again('batch_size', '10000');
SELECT again('batch_size', '7');

-- A query is compared as text, a reducer as a handler; NULL and nothing are one.
SELECT es_create_projection('q', query => 'SELECT FROM es_batch', filter => '[{"types": ["OrderShipped"], "tags": ["a"]}]');
SELECT es_create_projection('q', query => 'SELECT FROM es_batch', filter => '[{"tags": ["a"], "types": ["OrderShipped"]}]', types => NULL, if_not_exists => true);
SELECT es_create_projection('q', query => 'SELECT  FROM es_batch', filter => '[{"tags": ["b"], "types": ["OrderShipped"]}]', if_not_exists => true);
SELECT es_create_projection('q', query => 'SELECT FROM es_batch', types => '{OrderShipped}', if_not_exists => true);
SELECT es_create_projection('r', reducer => 'keep');
SELECT es_create_projection('r', reducer => 'keep', if_not_exists => true);
SELECT es_create_projection('r', reducer => 'pass', if_not_exists => true);
SELECT es_create_projection('r', handler => 'keep', if_not_exists => true);

-- A subscription likewise.
SELECT es_create_subscription('s', types => '{A,B}', categories => '{Order}', start_after => 1, partitions => 2, ack_timeout => '1 day', max_retries => 3);
CREATE FUNCTION subscribe_again(VARIADIC changed text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    arguments jsonb := '{"types": "{A,B}", "categories": "{Order}", "start_after": "1", "partitions": "2", "ack_timeout": "1 day", "max_retries": "3"}';
BEGIN
    arguments := jsonb_strip_nulls(arguments || jsonb_object(changed));
    EXECUTE 'SELECT es_create_subscription(''s'', if_not_exists => true, ' ||
        (SELECT string_agg(format('%s => %L', key, value), ', ') FROM jsonb_each_text(arguments)) || ')';
END $$;
SELECT subscribe_again('types', '{B,A,A}');
SELECT subscribe_again('types', '{A,C}');
SELECT subscribe_again('categories', NULL);
SELECT subscribe_again('categories', NULL, 'types', NULL, 'filter', '[{"types": ["A", "B"]}]');
SELECT subscribe_again('start_after', '0');
SELECT subscribe_again('partitions', '1');
SELECT subscribe_again('ack_timeout', '24 hours');
SELECT subscribe_again('ack_timeout', '23 hours');
SELECT subscribe_again('max_retries', '0');
SELECT subscribe_again('types', '{}', 'partitions', '7', 'max_retries', '0');
SELECT subscribe_again('partitions', '0');
SELECT es_alter_subscription('s', max_retries => 0);
SELECT subscribe_again('max_retries', '0');
SELECT es_create_subscription('items', filter => '[{"types": ["A"]}]', if_not_exists => true);
SELECT es_create_subscription('items', filter => '[{"types": ["A"]}, {"types": ["A"]}]', if_not_exists => true);

-- Made by this transaction: the same.
BEGIN;
SELECT es_create_projection('tx', 'pass'), es_create_subscription('tx');
SELECT es_create_projection('tx', 'pass', mode => 'inline', if_not_exists => true), es_create_subscription('tx', partitions => 2, if_not_exists => true);
ROLLBACK;

-- After a reset there is nothing to compare a type with again.
SET eventstore.allow_drop = on;
SELECT es_reset();
SELECT es_create_subscription('after a reset', types => '{OrderShiped}');

DROP OWNED BY declare_blind, declare_other;
DROP ROLE declare_blind, declare_other;

-- A filter is what it means: null is as if left out, and names of an item are a set.
SELECT es_create_projection('meant', 'pass', filter => '[{"types": ["OrderPlaced", "OrderShipped"]}]');
SELECT es_create_projection('meant', 'pass', filter => '[{"tags": null, "types": ["OrderShipped", "OrderPlaced"]}]', if_not_exists => true);
SELECT es_create_projection('meant', 'pass', filter => '[{"tags": ["a"], "types": ["OrderShipped", "OrderPlaced"]}]', if_not_exists => true);
-- Who may not act as its owner could guess, and is not told.
CREATE ROLE regress_guesser;
GRANT EXECUTE ON FUNCTION es_create_projection TO regress_guesser;
SET ROLE regress_guesser;
SELECT es_create_projection('meant', 'pass_too', if_not_exists => true);
RESET ROLE;
REVOKE EXECUTE ON FUNCTION es_create_projection FROM regress_guesser;
DROP ROLE regress_guesser;
