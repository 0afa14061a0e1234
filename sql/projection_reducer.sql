-- States: what a function makes of the events of a key, one after the other.

CREATE EXTENSION eventstore;

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
            (SELECT string_agg(regexp_replace(line, 'position \d+', 'position N'), E'\n') FROM regexp_split_to_table(context, '\n') line WHERE line LIKE '%projection%'));
END $$;

SELECT count(*) FROM es_append_batch(
    '{Account-1,                 Account-2,                 Account-1,                 Account-3,                 Account-1,                 Shop-1}',
    '{Deposited,                 Deposited,                 Withdrawn,                 Deposited,                 Deposited,                 Closed}',
    '{"{\"amount\": 10, \"customer_id\": 7, \"by\": {\"name\": \"ada\"}}",
      "{\"amount\": 20, \"customer_id\": \"7\", \"by\": {\"name\": \"grace\"}}",
      "{\"amount\": -3, \"customer_id\": 8, \"by\": {\"name\": null}}",
      "{\"amount\": 40, \"customer_id\": true, \"by\": \"ada\"}",
      "{\"amount\": 50, \"customer_id\": \"\", \"by\": {\"name\": [\"x\", 1]}}",
      "{\"amount\": 60}"}',
    metadata => '{"{\"user\": \"u1\"}", "{\"user\": \"u2\"}", "{\"user\": \"u1\"}", NULL, "{}", "{\"user\": {\"id\": 3}}"}',
    created_at => '{2020-01-01, 2020-01-02, 2020-01-03, 2020-01-04, 2020-01-05, 2020-01-06}');


-- ---- a state for each key ----

-- The function gets the state so far, {} at first, and the event, and returns the
-- new state.
CREATE FUNCTION total(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT jsonb_build_object('total', coalesce((state -> 'total')::int, 0) + (event.data ->> 'amount')::int, 'versions', coalesce(state -> 'versions', '[]') || to_jsonb(event.version)) $$;

-- By default a stream has a state.
SELECT es_create_projection('accounts', reducer => 'total', categories => '{Account}');
SELECT es_wait_for_projection('accounts', timeout => '60 s');
SELECT key, es_projection_state('accounts', key) FROM unnest('{Account-1, Account-2, Account-3, Shop-1}'::text[]) key;
SELECT version FROM es_append('Account-2', 'Deposited', '{"amount": 1}');
SELECT es_wait_for_projection('accounts', timeout => '60 s');
SELECT es_projection_state('accounts', 'Account-2');
SELECT key, state -> 'total' AS total FROM eventstore.projection_states WHERE projection = 'accounts' ORDER BY key;

-- Or a category has, or a type, or there is one for all,
CREATE FUNCTION sum_up(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql STRICT
    AS $$ SELECT state || jsonb_build_object('n', coalesce((state -> 'n')::int, 0) + 1, 'total', coalesce((state -> 'total')::int, 0) + (event.data ->> 'amount')::int) $$;
CREATE FUNCTION states(partition_by text, mode text) RETURNS TABLE (key text, state jsonb)
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_create_projection('p', reducer => 'sum_up', partition_by => partition_by, mode => mode);
    PERFORM es_run_projection('p');
    RETURN QUERY SELECT s.key, s.state FROM eventstore.projection_states s WHERE s.projection = 'p' ORDER BY s.key;
    PERFORM es_drop_projection('p');
END $$;
SELECT * FROM states('category', 'async');
SELECT * FROM states('type', 'async');
SELECT * FROM states('all', 'async');

-- or a value in the event: a string, or what else there is, as text.  An event
-- without one is skipped.
SELECT * FROM states('data.customer_id', 'async');
SELECT * FROM states('data.by.name', 'async');
SELECT * FROM states('data.by.name.0', 'async');
SELECT * FROM states('data.nothing.at.all', 'async');
SELECT * FROM states('metadata.user', 'async');
SELECT * FROM states('metadata.user.id', 'async');
SELECT count(*) AS left_over FROM eventstore.projection_state s WHERE NOT EXISTS (SELECT FROM eventstore.projection p WHERE p.projection_id = s.projection_id);

-- Inline is no different.
SELECT p AS partition_by, (SELECT array_agg(a) FROM states(p, 'async') a) = (SELECT array_agg(i) FROM states(p, 'inline') i) AS same
FROM unnest('{stream, category, type, all, data.customer_id, data.by.name, metadata.user}'::text[]) p;

-- Batches do not matter.
CREATE FUNCTION states_in_batches(size int) RETURNS TABLE (key text, state jsonb)
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_create_projection('b', reducer => 'sum_up', partition_by => 'type', batch_size => size);
    PERFORM es_run_projection('b', position) FROM es_read_all() ORDER BY position;
    RETURN QUERY SELECT s.key, s.state FROM eventstore.projection_states s WHERE s.projection = 'b' ORDER BY s.key;
    PERFORM es_drop_projection('b');
END $$;
SELECT size, (SELECT array_agg(b) FROM states_in_batches(size) b) = (SELECT array_agg(a) FROM states('type', 'async') a) AS same FROM unnest('{1, 2, 1000000}'::int[]) size;


-- ---- what the function returns ----

-- Any JSON.  NULL takes the key away; when it comes again, it begins with {} again.
CREATE FUNCTION latest(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT CASE WHEN event.data = '"gone"' THEN NULL WHEN event.data = '"state"' THEN jsonb_build_array(state) ELSE event.data END $$;
SELECT es_create_projection('latest', reducer => 'latest', mode => 'inline', categories => '{Latest}');
SELECT data, (SELECT version FROM es_append('Latest-1', 'Said', data::jsonb)) IS NOT NULL AS said, es_projection_state('latest', 'Latest-1') AS state
FROM unnest(ARRAY['1', '"text"', 'null', '[]', '{"a": {"b": 1}}', '"state"', '"gone"', '"gone"', '"state"', 'false', '"state"']) data;

-- Also within one call, and one batch.
SELECT version FROM es_append_events('Latest-2', '[{"type": "Said", "data": 1}, {"type": "Said", "data": "gone"}, {"type": "Said", "data": "state"}, {"type": "Said", "data": "state"}]');
SELECT es_projection_state('latest', 'Latest-2');
SELECT version FROM es_append_events('Latest-2', '[{"type": "Said", "data": "gone"}, {"type": "Said", "data": "gone"}]');
SELECT es_projection_state('latest', 'Latest-2');
SELECT version FROM es_append_events('Latest-3', '[{"type": "Said", "data": "gone"}]');
SELECT count(*) FROM eventstore.projection_state WHERE key LIKE 'Latest-%';

-- A STRICT function is called like any other: neither of its arguments is ever null.
CREATE FUNCTION latest_strict(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT latest(state, event) $$;
BEGIN;
SELECT es_create_projection('strict', reducer => 'latest_strict', categories => '{Latest}');
SELECT es_run_projection('strict');
SELECT es_projection_state('strict', 'Latest-1') = es_projection_state('latest', 'Latest-1') AS same, es_projection_state('strict', 'Latest-2');
ROLLBACK;

-- Large states, and keys that are odd.
CREATE FUNCTION collect(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('all', coalesce(state ->> 'all', '') || repeat(event.type, 100000)) $$;
SELECT es_create_projection('collection', reducer => 'collect', mode => 'inline', categories => '{Odd}', partition_by => 'data.key');
SELECT count(*) FROM (SELECT es_append('Odd-1', 'T', jsonb_build_object('key', key)) FROM unnest(ARRAY['a', 'A', ' a', E'a\nb', 'é', U&'e\0301', '🚀', 'null', 'a']) key) a;
SELECT key, length(es_projection_state('collection', key) ->> 'all') FROM unnest(ARRAY['a', 'A', ' a', E'a\nb', 'é', U&'e\0301', '🚀', 'null', 'b']) key;

-- One that does not fit into an index is an error of its event.
SELECT version FROM es_append('Odd-1', 'T', jsonb_build_object('key', repeat('k', 2000)));
SELECT failure($$ SELECT es_append('Odd-1', 'T', jsonb_build_object('key', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i))) $$) ~ '^54000' AS refused;
SELECT es_stream_version('Odd-1');
SELECT es_drop_projection('collection');

-- The states go with the projection; and begin anew with a rebuild.
SELECT es_rebuild_projection('accounts');
SELECT es_wait_for_projection('accounts', timeout => '60 s');
SELECT es_projection_state('accounts', 'Account-1'), es_projection_state('accounts', 'Account-2');
BEGIN;
SELECT es_rebuild_projection('accounts');
SELECT es_projection_state('accounts', 'Account-1');
ROLLBACK;
SELECT es_projection_state('accounts', 'Account-1');
SELECT es_drop_projection('latest');
SELECT count(*) FROM eventstore.projection_state WHERE key LIKE 'Latest-%';
SELECT es_projection_state('latest', 'Latest-1');
\echo :SQLSTATE

-- With a reset, what that empties is emptied as well.
CREATE TABLE noted (key text);
CREATE FUNCTION note(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO noted VALUES (event.stream); RETURN jsonb_build_object('n', coalesce((state ->> 'n')::int, 0) + 1); END $$;
SELECT es_create_projection('notes', reducer => 'note', categories => '{Account}', reset => 'TRUNCATE noted');
SELECT es_wait_for_projection('notes', timeout => '60 s');
SELECT es_rebuild_projection('notes');
SELECT es_wait_for_projection('notes', timeout => '60 s');
SELECT count(*), es_projection_state('notes', 'Account-1') FROM noted;
SELECT es_drop_projection('notes');

-- What is no projection with states has none.
CREATE FUNCTION pass(event es_event) RETURNS void LANGUAGE sql AS '';
SELECT es_create_projection('handler', 'pass');
SELECT es_projection_state('handler', 'Account-1') IS NULL AS "null";

-- Errors: the event, and which projection.  Nothing of the batch is kept.
CREATE FUNCTION total_inline(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT total(state, event) $$;
SELECT es_create_projection('inline accounts', reducer => 'total_inline', mode => 'inline', categories => '{Account}');
SELECT failure($$ SELECT es_append_batch('{Account-7, Account-8, Account-7}', '{Deposited, Deposited, Deposited}', '{"{\"amount\": 1}", "{\"amount\": \"x\"}", "{\"amount\": 3}"}') $$);
SELECT es_projection_state('inline accounts', 'Account-7');


-- ---- es_aggregate ----

-- The same function over one stream, now.
SELECT es_aggregate('Account-1', 'total');
SELECT stream, es_aggregate(stream, 'total') = es_projection_state('accounts', stream) AS "equals the projection" FROM unnest('{Account-1, Account-2, Account-3}'::text[]) stream;
SELECT es_aggregate('Account-99', 'total');

-- From another beginning.
SELECT es_aggregate('Account-1', 'total', '{"total": 1000}');
SELECT es_aggregate('Account-99', 'total', '{"total": 1000}');
CREATE FUNCTION begin_with(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT coalesce(state, '"null"') || to_jsonb(event.version) $$;
SELECT es_aggregate('Account-1', 'begin_with', NULL), es_aggregate('Account-1', 'begin_with', 'null'), es_aggregate('Account-1', 'begin_with', '[]'), es_aggregate('Account-1', 'begin_with');
SELECT es_aggregate('Account-99', 'begin_with', NULL) IS NULL AS "null";

-- A STRICT function is not called for a state that is null, which stays so.
CREATE FUNCTION begin_with_strict(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT begin_with(state, event) $$;
SELECT es_aggregate('Account-1', 'begin_with_strict', NULL) IS NULL AS "null", es_aggregate('Account-1', 'begin_with_strict');

-- A function may return null, and gets it with the next event.
CREATE FUNCTION forget(state jsonb, event es_event) RETURNS jsonb
    LANGUAGE sql
    AS $$ SELECT CASE event.version WHEN 2 THEN NULL WHEN 3 THEN to_jsonb(coalesce(state::text, 'was null')) ELSE '1' END $$;
SELECT es_aggregate('Account-1', 'forget'), es_aggregate('Account-1', 'forget', up_to_version => 2) IS NULL AS "null";

-- As it was at a version,
SELECT v AS up_to, es_aggregate('Account-1', 'total', up_to_version => v) FROM unnest('{0, 1, 2, 3, 4}'::bigint[]) v;
-- or at a moment: up to the last event that was created then or before.
SELECT at::date, es_aggregate('Account-1', 'total', as_of => at) FROM unnest('{2019-12-31, 2020-01-01, 2020-01-02, 2020-01-03, 2020-01-04, 2020-01-05, infinity, -infinity}'::timestamptz[]) at;
SELECT es_aggregate('Account-1', 'total', up_to_version => 1, as_of => '2020-01-04'), es_aggregate('Account-1', 'total', up_to_version => 3, as_of => '2020-01-04');
-- A clock that went back does not change the order of a stream.
SELECT count(*) FROM es_append_batch('{Clock-1, Clock-1, Clock-1, Clock-1}', '{A, B, C, D}', '{"{\"amount\": 1}", "{\"amount\": 10}", "{\"amount\": 100}", "{\"amount\": 1000}"}',
    created_at => '{2020-01-01, 2020-01-03, 2020-01-02, 2020-01-04}');
SELECT at::date, es_aggregate('Clock-1', 'total', as_of => at) FROM unnest('{2020-01-01, 2020-01-02, 2020-01-03, 2020-01-04}'::timestamptz[]) at;

-- What the transaction has appended itself, counts.
BEGIN;
SELECT version FROM es_append('Account-3', 'Deposited', '{"amount": 2}');
SELECT es_aggregate('Account-3', 'total'), es_aggregate('Account-3', 'total', as_of => clock_timestamp());
ROLLBACK;
SELECT es_aggregate('Account-3', 'total');

-- Decide upon it: the version that was looked at is expected.
SELECT (es_aggregate('Account-3', 'total') ->> 'total')::int >= 5 AS enough, es_stream_version('Account-3') AS version \gset
SELECT version FROM es_append('Account-3', 'Withdrawn', '{"amount": -5}', expected_version => :version) WHERE :'enough';

-- With the rights of the caller, and the caller's search_path.
CREATE ROLE regress_folder;
GRANT EXECUTE ON FUNCTION es_aggregate TO regress_folder;
CREATE TABLE secret (n int);
CREATE FUNCTION look(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(count(*)) FROM secret $$;
SELECT es_aggregate('Account-1', 'look');
SET ROLE regress_folder;
SELECT failure($$ SELECT es_aggregate('Account-1', 'look') $$);
SELECT es_aggregate('Account-1', 'total', up_to_version => 1);
RESET ROLE;
CREATE SCHEMA other;
CREATE FUNCTION other.total(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '"the other"'::jsonb $$;
SET search_path = other, public;
SELECT es_aggregate('Account-1', 'total'), es_aggregate('Account-1', 'public.total', up_to_version => 1);
RESET search_path;
-- Whoever may not execute the function, may not so either.
REVOKE EXECUTE ON FUNCTION total(jsonb, es_event) FROM PUBLIC;
SET ROLE regress_folder;
SELECT failure($$ SELECT es_aggregate('Account-1', 'total') $$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION total(jsonb, es_event) TO PUBLIC;
DROP OWNED BY regress_folder;
DROP ROLE regress_folder;

-- An error is the caller's.
SELECT version FROM es_append('Broken-1', 'Deposited', '{"amount": "nothing"}');
SELECT failure($$ SELECT es_aggregate('Broken-1', 'total') $$);
