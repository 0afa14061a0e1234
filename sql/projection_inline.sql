-- Read models that are kept in the transaction that appends.

CREATE EXTENSION eventstore;

\getenv source PG_ABS_SRCDIR
\set await :source '/tests/await.sql'
\set ECHO none
\i :await
\set ECHO all

-- The error of a statement, with the lines of its CONTEXT that speak of projections.
CREATE FUNCTION failure(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    message text; detail text; hint text; context text;
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
        RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, nullif(detail, ''), nullif(hint, ''),
            (SELECT string_agg(regexp_replace(line, 'position \d+', 'position N'), E'\n') FROM regexp_split_to_table(context, '\n') line WHERE line LIKE 'projection%'));
END $$;


-- ---- a handler ----

-- A function that gets each event, and a table that it keeps.
CREATE TABLE customer_order (stream text PRIMARY KEY, customer text, state text, changes int);
CREATE FUNCTION on_order(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    CASE event.type
        WHEN 'Placed' THEN
            INSERT INTO customer_order VALUES (event.stream, event.data ->> 'customer', 'placed', 1);
        ELSE
            UPDATE customer_order SET state = lower(event.type), changes = changes + 1 WHERE stream = event.stream;
    END CASE;
END $$;
SELECT es_create_projection('orders', 'on_order', mode => 'inline', reset => 'TRUNCATE customer_order');
SELECT name, mode, form, state, code FROM eventstore.projections;

-- When the append returns, the read model has it,
SELECT version FROM es_append('Order-1', 'Placed', '{"customer": "ada"}');
SELECT * FROM customer_order;

-- in the same transaction; both are committed, or neither.
BEGIN;
SELECT version FROM es_append('Order-1', 'Paid');
SELECT * FROM customer_order;
ROLLBACK;
SELECT * FROM customer_order;

-- Savepoints included.
BEGIN;
SELECT version FROM es_append('Order-1', 'Paid');
SAVEPOINT s;
SELECT version FROM es_append('Order-1', 'Shipped');
SELECT * FROM customer_order;
ROLLBACK TO s;
SELECT * FROM customer_order;
SELECT version FROM es_append('Order-1', 'Packed');
COMMIT;
SELECT * FROM customer_order;

-- A statement that appends twice finds what it did the first time.
SELECT a.version, b.version, o.*
FROM es_append('Order-2', 'Placed', '{"customer": "grace"}') a,
    LATERAL es_append('Order-2', 'Paid', expected_version => a.version) b
LEFT JOIN customer_order o ON false;
SELECT * FROM customer_order ORDER BY stream;

-- All events of a call, in order; those of many streams, too.
SELECT version FROM es_append_events('Order-3', '[{"type": "Placed", "data": {"customer": "alan"}}, {"type": "Paid"}, {"type": "Shipped"}]');
SELECT stream, version
FROM es_append_batch('{Order-4, Order-5, Order-4, Order-5}', '{Placed, Placed, Paid, Cancelled}',
    '{"{\"customer\": \"kay\"}", "{\"customer\": \"edsger\"}", "{}", "{}"}');
SELECT * FROM customer_order ORDER BY stream;

-- What stores nothing changes nothing: a repeated call, one with a version that is
-- wrong, one without events.
SELECT version, duplicate FROM es_append('Order-5', 'Refunded', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version, duplicate FROM es_append('Order-5', 'Refunded', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM es_append('Order-5', 'Refunded', expected_version => 2);
\echo :SQLSTATE
SELECT version FROM es_append_events('Order-5', '[]');
SELECT * FROM customer_order WHERE stream = 'Order-5';

-- It is always up to date.
SELECT es_wait_for_projection('orders', timeout => '0 s');
SELECT state, checkpoint = es_head() AS "at the head", lag, lag_seconds, failures FROM eventstore.projections WHERE name = 'orders';
SELECT es_run_projection('orders');


-- ---- what a handler gets ----

-- The event as it is stored, and as every reader will see it.
CREATE TABLE got (event es_event);
CREATE FUNCTION note(event es_event) RETURNS int
    LANGUAGE sql
    AS $$ INSERT INTO got VALUES (event) RETURNING 1 $$;
SELECT es_create_projection('notes', 'note', mode => 'inline', start_after => es_head());
BEGIN;
SET LOCAL eventstore.metadata = '{"user": "ada", "correlation_id": "request-1"}';
SELECT version FROM es_append('Note-1', 'A', '{"n": 1, "nested": {"list": [1, null, "é"]}}', metadata => '{"user": "grace"}', tags => '{a, b}',
    schema_version => 3);
SELECT version FROM es_append('Note-1', 'B', 'null', event_id => '00000000-0000-4000-8000-000000000002');
COMMIT;
SELECT count(*) FROM es_append_batch('{Note-1, Note-2}', '{C, C}', '{"\"text\"", "[]"}', created_at => '{2001-01-01, NULL}', tags => '{NULL, "[\"c\"]"}');
SELECT version FROM es_append('Note-3', 'D', to_jsonb(repeat('long ', 10000)));
SELECT (g.event).stream, (g.event).version, (g.event).type, left((g.event).data::text, 60) AS data, (g.event).metadata, (g.event).tags
FROM got g ORDER BY (g.event).position;
SELECT count(*) AS same FROM got g JOIN es_read_all() e ON e = g.event;
SELECT count(*) FROM got;

-- What a trigger of one's own has made of it, included.
CREATE FUNCTION clean() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.data := NEW.data - 'secret'; NEW.tags := '{clean}'; RETURN NEW; END $$;
CREATE TRIGGER clean BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION clean();
TRUNCATE got;
SELECT version FROM es_append('Note-4', 'E', '{"secret": 1, "known": 2}');
SELECT (g.event).data, (g.event).tags FROM got g;
DROP TRIGGER clean ON eventstore.event_log;
SELECT es_drop_projection('notes');


-- ---- filters ----

CREATE TABLE seen (projection text, stream text, type text, n int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION see_paid(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('paid', event.stream, event.type) $$;
CREATE FUNCTION see_invoice(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('invoice', event.stream, event.type) $$;
CREATE FUNCTION see_both(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('both', event.stream, event.type) $$;
CREATE FUNCTION see_new(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('new', event.stream, event.type) $$;
SELECT es_create_projection('paid', 'see_paid', mode => 'inline', types => '{Paid}', start_after => es_head());
SELECT es_create_projection('invoice', 'see_invoice', mode => 'inline', categories => '{Invoice, Credit}', start_after => es_head());
SELECT es_create_projection('both', 'see_both', mode => 'inline', types => '{Paid, Sent}', categories => '{Invoice}', start_after => es_head());
-- Types and categories need not be known yet.
SELECT es_create_projection('new', 'see_new', mode => 'inline', types => '{NeverSeen}', start_after => es_head());
SELECT count(*)
FROM es_append_batch('{Invoice-1, Invoice-1, Credit-1, Order-1, Invoice, Invoices-1, Invoice-2}', '{Sent, Paid, Paid, Paid, Drafted, Paid, NeverSeen}', '{1, 2, 3, 4, 5, 6, 7}');
SELECT projection, stream, type FROM seen ORDER BY n;
SELECT count(es_drop_projection(name)) FROM unnest('{paid, invoice, both, new}'::text[]) name;


-- ---- a query ----

-- One statement for all events of a call, with the relation es_batch.
CREATE TABLE sale (article text PRIMARY KEY, quantity bigint, calls int);
SELECT es_create_projection('sales', mode => 'inline', types => '{Sold}', query => $$
    INSERT INTO sale
    SELECT data ->> 'article', sum((data ->> 'quantity')::int), 1 FROM es_batch GROUP BY 1
    ON CONFLICT (article) DO UPDATE SET quantity = sale.quantity + excluded.quantity, calls = sale.calls + 1 $$);
SELECT version FROM es_append('Shop-1', 'Sold', '{"article": "pen", "quantity": 2}');
SELECT version FROM es_append_events('Shop-1', '[{"type": "Sold", "data": {"article": "pen", "quantity": 3}}, {"type": "Closed"},
    {"type": "Sold", "data": {"article": "ink", "quantity": 1}}, {"type": "Sold", "data": {"article": "pen", "quantity": 5}}]');
SELECT version FROM es_append('Shop-1', 'Closed');
SELECT * FROM sale ORDER BY article;

-- The relation has the columns of es_event and is nowhere else.
SELECT es_create_projection('columns', mode => 'inline', types => '{Sold}', query => $$
    INSERT INTO seen (projection, type)
    SELECT 'columns', CASE WHEN b::es_event IS NOT DISTINCT FROM (SELECT e FROM es_read_stream(b.stream, b.version, 1) e) THEN 'same' ELSE 'different' END
    FROM (SELECT position, stream, version, type, schema_version, data, metadata, tags, event_id, created_at, content_type, payload FROM es_batch) b $$, start_after => es_head());
SELECT version FROM es_append('Shop-1', 'Sold', '{"article": "pen", "quantity": 1}', tags => '{x}', metadata => '{"y": 1}');
SELECT projection, type FROM seen WHERE projection = 'columns';
SELECT count(*) FROM es_batch;
\echo :SQLSTATE
SELECT es_drop_projection('columns');

-- It may be any of these, and name tables as its owner would.
CREATE SCHEMA shop;
CREATE TABLE shop.stock (article text PRIMARY KEY, quantity bigint);
INSERT INTO shop.stock VALUES ('pen', 100), ('ink', 100);
SET search_path = shop, public;
SELECT es_create_projection('stock', mode => 'inline', types => '{Sold}', start_after => es_head(), query => $$
    MERGE INTO stock s USING (SELECT data ->> 'article' AS article, sum((data ->> 'quantity')::int) AS quantity FROM es_batch GROUP BY 1) b
    ON s.article = b.article
    WHEN MATCHED THEN UPDATE SET quantity = s.quantity - b.quantity
    WHEN NOT MATCHED THEN INSERT VALUES (b.article, -b.quantity) $$);
RESET search_path;
SELECT version FROM es_append_events('Shop-2', '[{"type": "Sold", "data": {"article": "pen", "quantity": 30}}, {"type": "Sold", "data": {"article": "cap", "quantity": 1}}]');
SELECT * FROM shop.stock ORDER BY article;
SELECT es_drop_projection('stock');
DROP SCHEMA shop CASCADE;


-- ---- a reducer ----

CREATE FUNCTION balance(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT jsonb_build_object('balance', coalesce((state -> 'balance')::int, 0) + (event.data ->> 'amount')::int) $$;
SELECT es_create_projection('balances', reducer => 'balance', mode => 'inline', categories => '{Account}');
SELECT version FROM es_append('Account-1', 'Deposited', '{"amount": 10}');
SELECT es_projection_state('balances', 'Account-1');
SELECT version FROM es_append_events('Account-1', '[{"type": "Deposited", "data": {"amount": 5}}, {"type": "Withdrawn", "data": {"amount": -3}}]');
SELECT count(*) FROM es_append_batch('{Account-2, Account-1, Account-2}', '{Deposited, Deposited, Deposited}', '{"{\"amount\": 1}", "{\"amount\": 2}", "{\"amount\": 4}"}');
SELECT es_projection_state('balances', 'Account-1') AS "1", es_projection_state('balances', 'Account-2') AS "2", es_projection_state('balances', 'Account-3') AS "3";
BEGIN;
SELECT version FROM es_append('Account-3', 'Deposited', '{"amount": 10}');
SELECT es_projection_state('balances', 'Account-3') AS before;
ROLLBACK;
SELECT es_projection_state('balances', 'Account-3') AS after;


-- ---- errors ----

-- The handler's error is the appender's, as it was raised; a line of CONTEXT names
-- the projection and the event.  Nothing is stored.
CREATE FUNCTION refuse(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF event.data ? 'bad' THEN
        RAISE EXCEPTION 'no % here', event.data ->> 'bad' USING ERRCODE = 'UE123', DETAIL = 'It is bad.', HINT = 'Try a good one.';
    END IF;
    INSERT INTO seen VALUES ('refuse', event.stream, event.type);
END $$;
TRUNCATE seen;
SELECT es_create_projection('refusal', 'refuse', mode => 'inline', on_error => 'skip', max_retries => 0, start_after => es_head());
SELECT failure($$ SELECT es_append_events('Bad-1', '[{"type": "Good"}, {"type": "Bad", "data": {"bad": "nonsense"}}, {"type": "Good"}]') $$);
SELECT es_stream_version('Bad-1');
SELECT count(*) FROM seen;

-- It does not count as a failure of the projection, whatever its on_error: the event
-- is not there.  The others go on.
SELECT version FROM es_append('Bad-1', 'Good');
SELECT state, failures, last_error, dead_letters FROM eventstore.projections WHERE name = 'refusal';
SELECT stream, type FROM seen;

-- Also inside a transaction that goes on.
BEGIN;
SELECT version FROM es_append('Bad-1', 'Better');
SAVEPOINT s;
\set VERBOSITY terse
SELECT version FROM es_append('Bad-1', 'Bad', '{"bad": "thing"}');
\echo :SQLSTATE
\set VERBOSITY default
ROLLBACK TO s;
SELECT version FROM es_append('Bad-1', 'Best');
COMMIT;
SELECT version, type FROM es_read_stream('Bad-1');
SELECT stream, type FROM seen ORDER BY n;

-- A query's and a reducer's errors name what they can.
SELECT failure($$ SELECT es_append('Shop-3', 'Sold', '{"article": "pen", "quantity": "many"}') $$);
SELECT failure($$ SELECT es_append_batch('{Shop-3, Shop-4}', '{Sold, Sold}', '{"{\"article\": \"pen\", \"quantity\": 1}", "{\"article\": \"pen\", \"quantity\": \"many\"}"}') $$);
SELECT failure($$ SELECT es_append('Account-1', 'Deposited', '{"amount": "much"}') $$);
SELECT es_stream_version('Shop-3'), es_projection_state('balances', 'Account-1');
SELECT es_drop_projection('refusal');


-- ---- rights ----

-- The code runs with the rights, and the search_path, of the role that created the
-- projection, whoever appends and however that session is set.
CREATE ROLE regress_modeler;
CREATE ROLE regress_appender;
GRANT EXECUTE ON FUNCTION es_create_projection, es_drop_projection, es_append TO regress_modeler;
GRANT EXECUTE ON FUNCTION es_append TO regress_appender;
CREATE SCHEMA modeler AUTHORIZATION regress_modeler;
SET ROLE regress_modeler;
SET search_path = modeler, public;
CREATE TABLE modeler.model (who text, path text, stream text);
CREATE FUNCTION modeler.keep(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO model VALUES (current_user, current_setting('search_path'), event.stream); END $$;
SELECT es_create_projection('modeled', 'keep', mode => 'inline', categories => '{Modeled}');
SELECT version FROM es_append('Modeled-1', 'A');
RESET ROLE;
RESET search_path;
SELECT name, owner, code FROM eventstore.projections WHERE name = 'modeled';
SET ROLE regress_appender;
SET search_path = pg_catalog;
SELECT version FROM public.es_append('Modeled-2', 'A');
SELECT * FROM modeler.model;
\echo :SQLSTATE
RESET ROLE;
SELECT version FROM public.es_append('Modeled-3', 'A');
SELECT current_user = session_user AS myself, current_setting('search_path');
RESET search_path;
SELECT * FROM modeler.model;

-- It cannot do what its owner may not, whoever appends.
CREATE TABLE closed (stream text);
SET ROLE regress_modeler;
CREATE FUNCTION modeler.overreach(event es_event) RETURNS void
    LANGUAGE sql
    AS $$ INSERT INTO public.closed VALUES (event.stream) $$;
SELECT es_create_projection('overreach', 'modeler.overreach', mode => 'inline', categories => '{Closed}');
RESET ROLE;
SELECT failure($$ SELECT es_append('Closed-1', 'A') $$);
SELECT es_stream_version('Closed-1');
SELECT es_drop_projection('overreach');
SELECT es_drop_projection('modeled');
DROP SCHEMA modeler CASCADE;


-- ---- events that come of events ----

-- An event that a handler appends carries the event that caused it, and the
-- correlation_id of that.
CREATE FUNCTION bill(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_append('Bill-' || split_part(event.stream, '-', 2), 'Billed', metadata => '{"by": "bill"}');
END $$;
CREATE FUNCTION post(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_append('Post-' || split_part(event.stream, '-', 2), 'Posted');
END $$;
SELECT es_create_projection('bills', 'bill', mode => 'inline', types => '{Ordered}');
SELECT es_create_projection('posts', 'post', mode => 'inline', types => '{Billed}');
SELECT version FROM es_append('Purchase-1', 'Ordered', event_id => '00000000-0000-4000-8000-000000000003', metadata => '{"correlation_id": "c-1", "causation_id": "click"}');
SELECT version FROM es_append('Purchase-2', 'Ordered', event_id => '00000000-0000-4000-8000-000000000004');
SELECT e.stream, e.type, e.metadata - 'causation_id' AS metadata, c.type AS cause, c.stream AS "of"
FROM eventstore.events e
LEFT JOIN eventstore.events c ON c.event_id::text = e.metadata ->> 'causation_id'
WHERE e.stream ~ '^(Purchase|Bill|Post)-' ORDER BY e.position;
SELECT type FROM es_read_correlation('c-1');

-- What the session sets for its own events, counts for these, too; the cause is told
-- all the same.
BEGIN;
SET LOCAL eventstore.metadata = '{"user": "ada", "causation_id": "session"}';
SELECT version FROM es_append('Purchase-3', 'Ordered', event_id => '00000000-0000-4000-8000-000000000005');
SELECT version FROM es_append('Purchase-3', 'Left');
COMMIT;
SELECT e.stream, e.type, e.metadata - 'causation_id' AS metadata, coalesce(c.type, e.metadata ->> 'causation_id') AS cause
FROM eventstore.events e
LEFT JOIN eventstore.events c ON c.event_id::text = e.metadata ->> 'causation_id'
WHERE e.stream ~ '-3$' AND e.stream ~ '^(Purchase|Bill|Post)-' ORDER BY e.position;
SELECT es_drop_projection('bills'), es_drop_projection('posts');

-- Those that a query appends are caused by its event, if it has one.
SELECT es_create_projection('bills', mode => 'inline', types => '{Ordered}', start_after => es_head(),
    query => $$ SELECT a.version FROM es_batch b, LATERAL es_append('Bill-' || split_part(b.stream, '-', 2), 'Billed') a $$);
SELECT version FROM es_append('Purchase-4', 'Ordered', event_id => '00000000-0000-4000-8000-000000000006');
SELECT count(*) FROM es_append_batch('{Purchase-5, Purchase-6}', '{Ordered, Ordered}', '{1, 2}');
SELECT stream, version, metadata FROM eventstore.events WHERE stream ~ '^Bill-[456]$' ORDER BY stream;
SELECT es_drop_projection('bills');

-- Projections are applied one after the other, in the order in which they were made,
-- each to all events of the call.
TRUNCATE seen;
CREATE FUNCTION see_first(event es_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen VALUES ('first', event.stream, event.type) $$;
CREATE FUNCTION see_second(event es_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO seen VALUES ('second, after ' || (SELECT count(*) FROM seen WHERE projection = 'first'), event.stream, event.type) $$;
SELECT es_create_projection('z', 'see_first', mode => 'inline', categories => '{Turn}');
SELECT es_create_projection('a', 'see_second', mode => 'inline', categories => '{Turn}');
SELECT version FROM es_append_events('Turn-1', '[{"type": "A"}, {"type": "B"}]');
SELECT projection, stream, type FROM seen ORDER BY n;
SELECT es_drop_projection('z'), es_drop_projection('a');


-- ---- on a log that holds events ----

-- A projection that is created inline first gets the events that there are.
CREATE TABLE copy (LIKE customer_order INCLUDING ALL);
CREATE FUNCTION on_order_copy(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    CASE event.type
        WHEN 'Placed' THEN
            INSERT INTO copy VALUES (event.stream, event.data ->> 'customer', 'placed', 1);
        ELSE
            UPDATE copy SET state = lower(event.type), changes = changes + 1 WHERE stream = event.stream;
    END CASE;
END $$;
SELECT es_create_projection('copies', 'on_order_copy', mode => 'inline', reset => 'TRUNCATE copy');
SELECT state FROM eventstore.projections WHERE name = 'copies';
SELECT count(*) > 4 AS some FROM copy;
SELECT version > 0 AS appended FROM es_append('Order-2', 'Returned');
SELECT count(*) AS different FROM (TABLE copy EXCEPT ALL TABLE customer_order) c;
SELECT count(*) AS different FROM (TABLE customer_order EXCEPT ALL TABLE copy) c;

-- In the transaction that creates it, it is there at once, and what that had appended
-- before is applied, too; if that is rolled back, nothing has happened.
TRUNCATE seen;
BEGIN;
SELECT version FROM es_append('Turn-2', 'A');
SAVEPOINT s;
SELECT es_create_projection('turns', 'see_first', mode => 'inline', types => '{A, B, C, D, E, F, G}', categories => '{Turn}');
SELECT version FROM es_append('Turn-2', 'B');
SELECT stream, type FROM seen ORDER BY n;
ROLLBACK TO s;
SELECT version FROM es_append('Turn-2', 'C');
SELECT stream, type FROM seen ORDER BY n;
SELECT es_create_projection('turns', 'see_first', mode => 'inline', categories => '{Turn}', start_after => es_head());
SELECT version FROM es_append('Turn-2', 'D');
SELECT stream, type FROM seen ORDER BY n;
COMMIT;
SELECT version FROM es_append('Turn-2', 'E');
SELECT type FROM seen ORDER BY n;

-- Likewise when it is paused and resumed among appends.
BEGIN;
SELECT version FROM es_append('Turn-2', 'F');
SELECT es_pause_projection('turns');
SELECT version FROM es_append('Turn-2', 'G');
SELECT type FROM seen ORDER BY n DESC LIMIT 1;
SELECT es_resume_projection('turns');
SELECT version FROM es_append('Turn-2', 'H');
COMMIT;
BEGIN;
SELECT version FROM es_append('Turn-2', 'I');
SELECT es_pause_projection('turns');
SELECT version FROM es_append('Turn-2', 'J');
COMMIT;
SELECT version FROM es_append('Turn-2', 'K');
SELECT es_resume_projection('turns');
SELECT version FROM es_append('Turn-2', 'L');
SELECT string_agg(type, ' ' ORDER BY n) FROM seen;

-- And when it is rebuilt.
SELECT es_alter_projection('turns', reset => 'TRUNCATE seen');
BEGIN;
SELECT version FROM es_append('Turn-2', 'M');
SELECT es_rebuild_projection('turns');
SELECT version FROM es_append('Turn-2', 'N');
COMMIT;
SELECT es_wait_for_projection('turns', timeout => '60 s');
SELECT string_agg(type, ' ' ORDER BY n) FROM seen;
SELECT es_drop_projection('turns');

-- Behind a long log it catches up in the background, and only then becomes inline.
SELECT count(*) FROM es_append_batch(array_fill('Long-1'::text, '{3000}'), array_fill('Counted'::text, '{3000}'), array_fill('1'::jsonb, '{3000}'));
CREATE TABLE tally (n bigint);
INSERT INTO tally VALUES (0);
SELECT es_create_projection('tally', mode => 'inline', types => '{Counted}', batch_size => 700, reset => 'UPDATE tally SET n = 0',
    query => 'UPDATE tally SET n = n + (SELECT count(*) FROM es_batch)');
CALL await($$ (SELECT state = 'running' FROM eventstore.projections WHERE name = 'tally') $$);
SELECT n FROM tally;
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;


-- ---- pause, resume, rebuild, drop ----

SELECT es_pause_projection('tally');
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;
SELECT state, lag > 0 AS behind, lag_seconds > 0 AS seconds FROM eventstore.projections WHERE name = 'tally';
SELECT es_wait_for_projection('tally', timeout => '0 s');
SELECT es_run_projection('tally');
\echo :SQLSTATE

-- Twice is once.
SELECT es_pause_projection('tally');

-- What it missed it gets when it is resumed.
SELECT es_resume_projection('tally');
SELECT n, (SELECT state FROM eventstore.projections WHERE name = 'tally') FROM tally;
SELECT es_resume_projection('tally');
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;

-- A rebuild empties the read model and ends inline again, without a loss.
UPDATE tally SET n = 17;
SELECT es_rebuild_projection('tally');
SELECT version FROM es_append('Long-1', 'Counted');
CALL await($$ (SELECT state = 'running' FROM eventstore.projections WHERE name = 'tally') $$);
SELECT n, (SELECT count(*) FROM eventstore.events WHERE type = 'Counted') AS events FROM tally;
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;

-- So does that of a reducer, whose states are emptied by themselves.
SELECT es_rebuild_projection('balances');
SELECT es_wait_for_projection('balances', timeout => '60 s');
SELECT es_projection_state('balances', 'Account-1') AS "1", es_projection_state('balances', 'Account-2') AS "2";
CALL await($$ (SELECT state = 'running' FROM eventstore.projections WHERE name = 'balances') $$);
SELECT version FROM es_append('Account-2', 'Deposited', '{"amount": 100}');
SELECT es_projection_state('balances', 'Account-2') AS "2";

-- How to empty the read model must be known.
SELECT es_rebuild_projection('sales');
\echo :SQLSTATE
SELECT es_alter_projection('sales', reset => 'DELETE FROM sale');
SELECT es_rebuild_projection('sales');
SELECT es_wait_for_projection('sales', timeout => '60 s');
SELECT article, quantity FROM sale ORDER BY article;
CALL await($$ (SELECT state = 'running' FROM eventstore.projections WHERE name = 'sales') $$);

-- In a transaction that is rolled back, nothing has happened.
BEGIN;
SELECT es_pause_projection('tally');
ROLLBACK;
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;
BEGIN;
SELECT es_rebuild_projection('tally');
SELECT n FROM tally;
ROLLBACK;
BEGIN;
SELECT es_drop_projection('tally');
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;
ROLLBACK;
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;

-- What a dropped one has written, stays.
SELECT es_drop_projection('tally');
SELECT version FROM es_append('Long-1', 'Counted');
SELECT n FROM tally;
SELECT name, state FROM eventstore.projections ORDER BY name COLLATE "C";

DROP OWNED BY regress_appender, regress_modeler;
DROP ROLE regress_appender, regress_modeler;
