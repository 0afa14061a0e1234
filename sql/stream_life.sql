-- The life of a stream: truncated, deleted, tombstoned, kept for a while, removed.

-- Only when we say so: nothing is removed in the background.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;
SET eventstore.metadata = '{"correlation_id": "c"}';

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
    detail text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN 'ok' || coalesce(nullif(': ' || answer, ': '), '');
EXCEPTION
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
        RETURN SQLSTATE || ': ' || left(SQLERRM, 150) || coalesce(nullif(' (' || detail || ')', ' ()'), '');
END $$;
CREATE FUNCTION collect(state jsonb, event es_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT state || to_jsonb(event.version) $$;

-- The versions of a stream that readers are shown, by every way there is to read.
CREATE FUNCTION ways(of text) RETURNS TABLE (way text, versions text)
    LANGUAGE sql
    AS $$
    SELECT 'stream', string_agg(version::text, ' ' ORDER BY version) FROM es_read_stream(of)
    UNION ALL SELECT 'stream backwards', string_agg(version::text, ' ' ORDER BY version) FROM es_read_stream(of, backwards => true)
    UNION ALL SELECT 'stream, types', string_agg(version::text, ' ' ORDER BY version) FROM es_read_stream(of, types => '{T, U}')
    UNION ALL SELECT 'all', string_agg(version::text, ' ' ORDER BY version) FROM es_read_all(max_count => NULL) WHERE stream = of
    UNION ALL SELECT 'all backwards', string_agg(version::text, ' ' ORDER BY version) FROM es_read_all(max_count => NULL, backwards => true) WHERE stream = of
    UNION ALL SELECT 'all, types', string_agg(version::text, ' ' ORDER BY version) FROM es_read_all(max_count => NULL, types => '{T, U}') WHERE stream = of
    UNION ALL SELECT 'all, category', string_agg(version::text, ' ' ORDER BY version) FROM es_read_all(max_count => NULL, categories => ARRAY[es_category(of)]) WHERE stream = of
    UNION ALL SELECT 'category', string_agg(version::text, ' ' ORDER BY version) FROM es_read_category(es_category(of), max_count => NULL) WHERE stream = of
    UNION ALL SELECT 'group', string_agg(version::text, ' ' ORDER BY version) FROM generate_series(0, 1) m, LATERAL es_read_category(es_category(of), 0, NULL, m, 2) WHERE stream = of
    UNION ALL SELECT 'correlation', string_agg(version::text, ' ' ORDER BY version) FROM es_read_correlation('c', NULL) WHERE stream = of
    UNION ALL SELECT 'load', string_agg(e ->> 'version', ' ' ORDER BY n) FROM es_load(of, 'none') l, jsonb_array_elements(l.events) WITH ORDINALITY j (e, n)
    UNION ALL SELECT 'aggregate', string_agg(v, ' ' ORDER BY n) FROM jsonb_array_elements_text(es_aggregate(of, 'collect', '[]')) WITH ORDINALITY j (v, n)
    UNION ALL SELECT 'view', string_agg(version::text, ' ' ORDER BY version) FROM eventstore.events WHERE stream = of $$;
-- The same if all agree.
CREATE FUNCTION shown(of text) RETURNS text
    LANGUAGE sql
    AS $$ SELECT CASE WHEN count(DISTINCT coalesce(versions, '-')) = 1 THEN coalesce(min(versions), 'none') ELSE string_agg(way || ': ' || coalesce(versions, '-'), ', ') END FROM ways(of) $$;
-- What is said about it, and how many of its events are stored.
CREATE FUNCTION story(of text) RETURNS TABLE (stream text, shown text, version bigint, stored bigint, said text)
    LANGUAGE sql
    AS $$
    SELECT of, shown(of), es_stream_version(of),
        (SELECT count(*) FROM eventstore.event_log l JOIN eventstore.stream s USING (stream_key) WHERE s.name = of),
        (SELECT concat_ws(', ', 'version ' || s.version, 'from ' || s.first_version, CASE WHEN s.deleted THEN 'deleted' END, CASE WHEN s.tombstoned THEN 'tombstoned' END,
             CASE WHEN s.last_event_at IS NULL THEN 'no last event' END)
         FROM eventstore.streams s WHERE s.stream = of) $$;
CREATE FUNCTION fill(of text, n int) RETURNS void LANGUAGE sql
    AS $$ SELECT es_append_batch(array_fill(of, ARRAY[n]), array_fill('T'::text, ARRAY[n]), array_fill('{}'::jsonb, ARRAY[n])) $$;


-- ---- truncated ----

SELECT fill('Order-1', 5);
SELECT * FROM story('Order-1');
SELECT es_truncate_stream('Order-1', 3);
SELECT * FROM story('Order-1');
-- never less than before,
SELECT es_truncate_stream('Order-1', 2);
SELECT * FROM story('Order-1');
-- up to all of it, where the version stays what it was.
SELECT es_truncate_stream('Order-1', 6);
SELECT * FROM story('Order-1');
SELECT outcome($$ SELECT version FROM es_append('Order-1', 'T', expected_version => 0) $$);
SELECT version FROM es_append('Order-1', 'T', expected_version => 5);
SELECT * FROM story('Order-1');
SELECT version, jsonb_array_length(events) AS events FROM es_load('Order-1');


-- ---- deleted ----

SELECT es_delete_stream('Order-1', expected_version => 6);
SELECT * FROM story('Order-1');
-- It has no events, and it has had six.
SELECT expected, outcome(format($$ SELECT es_check_version('Order-1', %s) $$, expected)) FROM unnest('{0, 6, "NULL", -4, 5, 7}'::text[]) expected;
SELECT expected, outcome(format($$ SELECT es_delete_stream('Order-1', %s) $$, expected)) FROM unnest('{0, 6, "NULL", -4, 5, 7}'::text[]) expected;
SELECT outcome($$ SELECT version FROM es_append('Order-1', 'T', expected_version => -4) $$);
SELECT version FROM es_append('Order-1', 'U', expected_version => 0);
SELECT * FROM story('Order-1');
SELECT outcome($$ SELECT version FROM es_append('Order-1', 'T', expected_version => 0) $$);
SELECT version FROM es_append('Order-1', 'T', expected_version => -4);
-- In a batch, versions are expected one after the other.
SELECT es_delete_stream('Order-1', -4);
SELECT version FROM es_append_batch('{Order-1, Order-1, Order-1}', '{T, T, T}', '{1, 2, 3}', '{0, 9, -4}');
SELECT * FROM story('Order-1');
-- A stream that never was cannot become less.
SELECT es_delete_stream('Never-1'), es_delete_stream('Never-1', 0), es_truncate_stream('Never-1', 1);
SELECT * FROM story('Never-1');


-- ---- removed ----

SELECT es_scavenge();
SELECT es_scavenge();
SELECT * FROM story('Order-1');
-- Also with the last event, which tells the version: the stream remembers.
SELECT es_delete_stream('Order-1');
SELECT es_scavenge();
SELECT * FROM story('Order-1');
SELECT expected, outcome(format($$ SELECT es_check_version('Order-1', %s) $$, expected)) FROM unnest('{0, 11, -4, 10}'::text[]) expected;
SELECT version FROM es_append('Order-1', 'T', expected_version => 11);
SELECT * FROM story('Order-1');
SELECT es_truncate_stream('Order-1', 13);
SELECT es_scavenge();
SELECT * FROM story('Order-1');
-- It has had events, and has none.
SELECT expected, outcome(format($$ SELECT es_check_version('Order-1', %s) $$, expected)) FROM unnest('{0, -4, 12}'::text[]) expected;
SELECT version FROM es_append_batch('{Order-1, Order-1}', '{T, T}', '{1, 2}', '{12, -4}');
SELECT * FROM story('Order-1');
-- Nothing of it is in the log; a position is not handed out again.
SELECT max(position) AS last FROM eventstore.event_log \gset
SELECT es_delete_stream('Order-1');
SELECT es_scavenge();
SELECT count(*) FROM eventstore.event_log;
SELECT es_head() >= :last AS "head stays";
SELECT position > :last AS "goes on" FROM es_append('Order-2', 'T');
SELECT version, position > :last AS "goes on" FROM es_append('Order-1', 'T');


-- ---- gone for good ----

SELECT fill('Order-3', 3);
SELECT outcome($$ SELECT es_tombstone_stream('Order-3', 2) $$), outcome($$ SELECT es_tombstone_stream('Order-3', 0) $$);
SELECT es_tombstone_stream('Order-3', 3);
SELECT * FROM story('Order-3');
SELECT statement, outcome(statement) FROM unnest(ARRAY[
    $$ SELECT es_append('Order-3', 'T') $$,
    $$ SELECT es_append('Order-3', 'T', expected_version => 0) $$,
    $$ SELECT es_append('Order-3', 'T', expected_version => 3) $$,
    $$ SELECT es_append_events('Order-3', '[{"type": "T"}]') $$,
    $$ SELECT es_append_batch('{Order-4, Order-3}', '{T, T}', '{1, 2}') $$,
    $$ SELECT es_truncate_stream('Order-3', 2) $$,
    $$ SELECT es_delete_stream('Order-3') $$,
    $$ SELECT es_save_snapshot('Order-3', 3, '{}') $$,
    $$ SELECT es_tombstone_stream('Order-3') $$,
    $$ SELECT es_tombstone_stream('Order-3', 3) $$,
    $$ SELECT es_tombstone_stream('Order-3', 2) $$]) statement;
SELECT count(*) FROM es_read_stream('Order-4');
SELECT es_scavenge();
SELECT * FROM story('Order-3');
SELECT outcome($$ SELECT es_append('Order-3', 'T') $$);
SELECT version, events FROM es_load('Order-3');
-- Before its first event.
SELECT outcome($$ SELECT es_tombstone_stream('Never-2', 1) $$), outcome($$ SELECT es_tombstone_stream('Never-2', -4) $$);
SELECT es_tombstone_stream('Never-2', 0);
SELECT outcome($$ SELECT es_append('Never-2', 'T') $$), es_stream_version('Never-2');
SELECT stream, tombstoned FROM eventstore.streams WHERE stream = 'Never-2';


-- ---- repeated appends ----

-- An event is known by its id after it was removed, too; more in removed_ids.
SELECT version, duplicate FROM es_append('Id-1', 'T', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version, duplicate FROM es_append('Id-2', 'T', event_id => '00000000-0000-4000-8000-000000000002');
SELECT es_delete_stream('Id-1'), es_tombstone_stream('Id-2');
SELECT version, duplicate FROM es_append('Id-1', 'T', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version, duplicate FROM es_append('Id-2', 'T', event_id => '00000000-0000-4000-8000-000000000002');
SELECT outcome($$ SELECT es_append('Id-3', 'T', event_id => '00000000-0000-4000-8000-000000000001') $$);
SELECT es_scavenge();
SELECT version, duplicate FROM es_append('Id-1', 'T', event_id => '00000000-0000-4000-8000-000000000001');
SELECT outcome($$ SELECT version FROM es_append('Id-2', 'T', event_id => '00000000-0000-4000-8000-000000000002') $$);
SELECT outcome($$ SELECT es_append('Id-3', 'T', event_id => '00000000-0000-4000-8000-000000000002') $$);


-- ---- retention ----

SELECT fill(stream, 4) FROM unnest('{Cart, Cart-1, Cart-2, Cart-2-x, Carts-1, "Cart,1", 11111111-2222-4333-8444-555555555555}'::text[]) stream;
CREATE VIEW kept AS
SELECT stream, es_category(stream) AS category, shown(stream)
FROM eventstore.streams WHERE stream LIKE 'Cart%' OR es_category(stream) = '' ORDER BY stream COLLATE "C";
-- A rule for each stream of a category; a stream's own goes before.
SELECT es_set_retention('Cart', max_count => 2);
SELECT es_set_retention('Cart-1', max_count => 3);
SELECT es_set_retention('', max_count => 1);
TABLE kept;
-- Not what both say: only its own.
SELECT es_set_retention('Cart-2', max_age => '100 years');
SELECT shown('Cart-2');
-- The rule is replaced as a whole; without any, what has not been removed is there again.
SELECT es_set_retention('Cart', max_age => '100 years');
SELECT es_set_retention('Cart-1'), es_set_retention('Cart-2'), es_set_retention('');
TABLE kept;
SELECT name, max_count, max_age FROM eventstore.retention;
-- The rule of a stream of the category's name is that of the category.
SELECT es_set_retention('Cart', max_count => 1);
SELECT es_scavenge();
TABLE kept;
-- Each append hides what is too much now.
SELECT fill('Cart-1', 1);
SELECT * FROM story('Cart-1');
SELECT fill('Cart-1', 7);
SELECT * FROM story('Cart-1');
SELECT es_set_retention('Cart', max_count => 9223372036854775807);
SELECT shown('Cart-1');
SELECT es_set_retention('Cart');

-- By age: created_at counts, whatever the order.
SELECT count(*)
FROM es_append_batch(array_fill('Sensor-1'::text, '{6}'), array_fill('T'::text, '{6}'), array_fill('1'::jsonb, '{6}'),
    metadata => array_fill('{"correlation_id": "c"}'::jsonb, '{6}'),
    created_at => ARRAY[now() - '3 years'::interval, now() - '10 days'::interval, now() - '40 days'::interval, now() - '1 day'::interval,
        now() + '3 days'::interval, now() - '2 years'::interval]);
CREATE FUNCTION kept_for(max_age interval, max_count bigint DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql
    AS $$ BEGIN PERFORM es_set_retention('Sensor', max_count, max_age); RETURN shown('Sensor-1'); END $$;
SELECT age, kept_for(age)
FROM unnest('{1 month, 1 month 15 days, 2 years 1 second, "4 years -700 days", 4713 years, 47 hours, 1 day, 1 microsecond}'::interval[]) age;
SELECT kept_for('1 month', 2), kept_for('1 month', 4), kept_for(NULL, 2);
SELECT kept_for('47 hours');
SELECT es_scavenge() > 0 AS removed;
SELECT shown('Sensor-1'), es_stream_version('Sensor-1');
SELECT version FROM es_append('Sensor-1', 'T', expected_version => 6);
-- All of a stream becomes too old.
SELECT fill('Short-1', 3);
SELECT es_set_retention('Short', max_age => '1 microsecond');
SELECT * FROM story('Short-1');
SELECT expected, outcome(format($$ SELECT es_check_version('Short-1', %s) $$, expected)) FROM unnest('{0, -4, 3}'::text[]) expected;
SELECT es_scavenge();
SELECT * FROM story('Short-1');
SELECT expected, outcome(format($$ SELECT es_check_version('Short-1', %s) $$, expected)) FROM unnest('{0, -4, 3}'::text[]) expected;
SELECT outcome($$ SELECT version FROM es_append('Short-1', 'T', expected_version => 0) $$);
SELECT version FROM es_append('Short-1', 'T', expected_version => 3);
SELECT es_set_retention('Short');
SELECT * FROM story('Short-1');

-- Categories beyond the first thousand.
SELECT count(*) FROM generate_series(1, 1010) c, generate_series(1, 2) s, LATERAL fill('C' || c || '-' || s, 3);
SELECT es_set_retention('C1009', 1), es_delete_stream('C1008-1'), es_truncate_stream('C1007-1', 3), es_tombstone_stream('C1006-2'), es_set_retention('C1005-2', 2);
CREATE VIEW late AS SELECT stream, shown(stream) FROM unnest('{C1009-1, C1009-2, C1008-1, C1008-2, C1007-1, C1006-1, C1006-2, C1005-1, C1005-2}'::text[]) stream;
TABLE late;
SELECT es_scavenge();
TABLE late;


-- ---- full pages ----

-- However much is hidden in between, a page has as many events as there are.
SELECT es_append('Page-' || s, CASE i % 2 WHEN 0 THEN 'T' ELSE 'U' END) AS e FROM generate_series(1, 60) i, generate_series(1, 5) s \g (tuples_only=on format=unaligned) /dev/null
SELECT fill('Behind-' || s, 1) FROM generate_series(1, 3) s;
SELECT es_truncate_stream('Page-1', 59), es_delete_stream('Page-2'), es_tombstone_stream('Page-3'), es_set_retention('Page-4', 3);
CREATE TEMPORARY TABLE there AS SELECT position, stream, version, type, es_category(stream) AS category FROM eventstore.events WHERE position > (SELECT min(position) - 1 FROM eventstore.events WHERE stream LIKE 'Page%');
SELECT stream, count(*), min(version), max(version) FROM there GROUP BY stream ORDER BY stream;
SELECT min(position) - 1 AS low FROM there \gset
CREATE FUNCTION wrong_pages(low bigint, n int) RETURNS TABLE (way text, wrong bigint)
    LANGUAGE sql
    AS $$
WITH place AS (SELECT p FROM generate_series(low, (SELECT max(position) FROM there)) p), version AS (SELECT v FROM generate_series(1, 62) v)
SELECT 'all', count(*) FROM place WHERE ARRAY(SELECT position FROM es_read_all(p, n)) <> ARRAY(SELECT position FROM there WHERE position > p ORDER BY 1 LIMIT n)
UNION ALL SELECT 'backwards', count(*) FROM place WHERE ARRAY(SELECT position FROM es_read_all(p, n, backwards => true) WHERE position > low) <> ARRAY(SELECT position FROM (SELECT position FROM there WHERE position < p ORDER BY 1 DESC LIMIT n) q)
UNION ALL SELECT 'types', count(*) FROM place WHERE ARRAY(SELECT position FROM es_read_all(p, n, '{U}')) <> ARRAY(SELECT position FROM there WHERE position > p AND type = 'U' ORDER BY 1 LIMIT n)
UNION ALL SELECT 'categories', count(*) FROM place WHERE ARRAY(SELECT position FROM es_read_all(p, n, NULL, '{Page}')) <> ARRAY(SELECT position FROM there WHERE position > p AND category = 'Page' ORDER BY 1 LIMIT n)
UNION ALL SELECT 'category', count(*) FROM place WHERE ARRAY(SELECT position FROM es_read_category('Page', p, n)) <> ARRAY(SELECT position FROM there WHERE position > p AND category = 'Page' ORDER BY 1 LIMIT n)
UNION ALL SELECT 'Page-' || s, count(*) FROM version, generate_series(1, 5) s WHERE ARRAY(SELECT version FROM es_read_stream('Page-' || s, v, n)) <> ARRAY(SELECT version FROM there WHERE version >= v AND stream = 'Page-' || s ORDER BY 1 LIMIT n) GROUP BY s
UNION ALL SELECT 'Page-' || s || ' backwards', count(*) FROM version, generate_series(1, 5) s WHERE ARRAY(SELECT version FROM es_read_stream('Page-' || s, v, n, true)) <> ARRAY(SELECT version FROM there WHERE version < v AND stream = 'Page-' || s ORDER BY 1 DESC LIMIT n) GROUP BY s
UNION ALL SELECT 'Page-' || s || ' types', count(*) FROM version, generate_series(1, 5) s WHERE ARRAY(SELECT version FROM es_read_stream('Page-' || s, v, n, false, '{U}')) <> ARRAY(SELECT version FROM there WHERE version >= v AND type = 'U' AND stream = 'Page-' || s ORDER BY 1 LIMIT n) GROUP BY s $$;
SELECT n, w.* FROM unnest('{1, 3, 100}'::int[]) n, LATERAL wrong_pages(:low, n) w WHERE wrong > 0;
SELECT es_scavenge();
SELECT n, w.* FROM unnest('{1, 3, 100}'::int[]) n, LATERAL wrong_pages(:low, n) w WHERE wrong > 0;
-- To wait for what is hidden is to wait in vain.
SELECT es_head() AS head \gset
BEGIN;
SELECT version FROM es_append('Page-2', 'T', expected_version => 0);
SELECT es_delete_stream('Page-2');
COMMIT;
SELECT es_head() > :head AS moved, count(*) FROM es_read_category('Page', :head, wait => '0.05 s');


-- ---- transactions ----

-- It sees its own doings, and they go with it or with a part of it.
SELECT fill('Own-1', 3);
BEGIN;
SELECT version FROM es_append('Own-1', 'T');
SELECT es_truncate_stream('Own-1', 4);
SELECT version FROM es_read_stream('Own-1');
SELECT count(*) FROM es_read_category('Own');
SELECT version FROM eventstore.events WHERE stream = 'Own-1';
SAVEPOINT deleted;
SELECT es_delete_stream('Own-1', 4);
SELECT count(*) FROM es_read_stream('Own-1');
SELECT version FROM es_append('Own-1', 'T', expected_version => 0);
SELECT version FROM es_append('Own-1', 'T', expected_version => 5);
SAVEPOINT gone;
SELECT es_tombstone_stream('Own-1', 6);
SELECT outcome($$ SELECT es_append('Own-1', 'T') $$);
SELECT es_scavenge();
SELECT es_stream_version('Own-1'), (SELECT count(*) FROM es_read_stream('Own-1'));
ROLLBACK TO gone;
SELECT version FROM es_read_stream('Own-1');
ROLLBACK TO deleted;
SELECT version FROM es_read_stream('Own-1');
SELECT version FROM es_append('Own-1', 'T', expected_version => 4);
SELECT es_set_retention('Own', 1);
SELECT version FROM es_read_stream('Own-1');
ROLLBACK;
SELECT * FROM story('Own-1');
-- Removed and taken back, and removed.
BEGIN;
SELECT es_delete_stream('Own-1');
SELECT es_scavenge();
ROLLBACK;
SELECT * FROM story('Own-1');
SELECT version FROM es_append('Own-1', 'T', expected_version => 3);
BEGIN;
SELECT es_delete_stream('Own-1');
SELECT es_scavenge();
SELECT version FROM es_append('Own-1', 'T', expected_version => 0);
COMMIT;
SELECT * FROM story('Own-1');
-- Streams that are new.
BEGIN;
SELECT es_tombstone_stream('Own-2');
SELECT outcome($$ SELECT es_append('Own-2', 'T') $$);
ROLLBACK;
SELECT version FROM es_append('Own-2', 'T');
BEGIN;
SELECT version FROM es_append('Own-3', 'T');
SELECT es_tombstone_stream('Own-3');
SELECT es_scavenge();
ROLLBACK;
SELECT version FROM es_append('Own-3', 'T', expected_version => 0);
BEGIN;
SELECT version FROM es_append('Own-4', 'T');
SELECT es_delete_stream('Own-4', 1);
SELECT es_scavenge();
COMMIT;
SELECT * FROM story('Own-4');
SELECT version FROM es_append('Own-4', 'T', expected_version => 1);
-- In one statement.
SELECT a.version, s AS scavenged, b.version
FROM es_append('Own-5', 'T') a, LATERAL es_delete_stream('Own-5', a.version) d, LATERAL es_scavenge() s,
    LATERAL es_append('Own-5', 'T', expected_version => CASE WHEN s IS NOT NULL THEN 0 END) b;
SELECT * FROM story('Own-5');
-- At the higher isolation levels.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT version FROM es_read_stream('Own-5');
SELECT es_truncate_stream('Own-5', 3);
SELECT count(*) FROM es_read_stream('Own-5');
SELECT version FROM es_append('Own-5', 'T', expected_version => 2);
SELECT es_delete_stream('Own-5', 3);
SELECT es_scavenge();
SELECT version FROM es_append('Own-5', 'T', expected_version => 0);
COMMIT;
SELECT * FROM story('Own-5');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT es_delete_stream('Own-5', 4);
SELECT es_scavenge();
SELECT version FROM es_append('Own-5', 'T', expected_version => 4);
SELECT es_set_retention('Own', 3);
SELECT es_scavenge();
COMMIT;
SELECT * FROM story('Own-5');
-- An inline handler may end the stream that it is told of.
CREATE FUNCTION do_it(event es_event) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    CASE event.data ->> 0
        WHEN 'truncate' THEN PERFORM es_truncate_stream(event.stream, event.version + 1);
        WHEN 'delete' THEN PERFORM es_delete_stream(event.stream, event.version);
        WHEN 'remove' THEN PERFORM es_delete_stream(event.stream), es_scavenge();
        WHEN 'tombstone' THEN PERFORM es_tombstone_stream(event.stream);
        ELSE
    END CASE;
END $$;
SELECT es_create_projection('do_it', 'do_it', mode => 'inline', categories => '{Told}');
CREATE FUNCTION own(of text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(version::text, ' ') FROM es_read_stream(of) $$;
SELECT what, outcome(format($$ SELECT version FROM es_append('Told-1', 'T', '["%s"]') $$, what)), own('Told-1')
FROM unnest('{nothing, truncate, nothing, delete, nothing, remove, nothing, tombstone, nothing}'::text[]) what;


-- ---- errors ----

SELECT fill('Bad-1', 3);
SELECT statement, outcome('SELECT ' || statement) FROM unnest(ARRAY[
    $$es_truncate_stream('Bad-1', 0)$$,
    $$es_truncate_stream('Bad-1', -9223372036854775808)$$,
    $$es_truncate_stream('Bad-1', 5)$$,
    $$es_truncate_stream('Bad-1', 9223372036854775807)$$,
    $$es_truncate_stream('Nothing-1', 2)$$,
    $$es_delete_stream('Bad-1', -1)$$,
    $$es_delete_stream('Bad-1', -5)$$,
    $$es_delete_stream('Bad-1', 2)$$,
    $$es_delete_stream('Bad-1', 9223372036854775807)$$,
    $$es_delete_stream('Nothing-1', 1)$$,
    $$es_delete_stream('Nothing-1', -4)$$,
    $$es_tombstone_stream('Bad-1', -1)$$,
    $$es_tombstone_stream('Bad-1', 4)$$,
    $$es_tombstone_stream('Nothing-1', 1)$$,
    $$es_set_retention('Bad', 0)$$,
    $$es_set_retention('Bad', -9223372036854775808)$$,
    $$es_set_retention('Bad', NULL, '0')$$,
    $$es_set_retention('Bad', NULL, '-1 microsecond')$$,
    $$es_set_retention('Bad', NULL, '1 month -31 days')$$,
    $$es_set_retention('Bad', NULL, '10000 years')$$,
    $$es_set_retention('Bad', NULL, '178000000 years')$$,
    $$es_set_retention('Bad', NULL, '2147483647 days')$$,
    $$es_set_retention('Bad', NULL, '2562047788 hours')$$,
    $$es_set_retention('-', 1)$$,
    $$es_set_retention('-1', 1)$$,
    $$es_set_retention(E'a\nb', 1)$$,
    $$es_set_retention(repeat('x', 256), 1)$$,
    $$es_set_retention(repeat('x', 255))$$]) statement;
SELECT name, outcome(format('SELECT es_truncate_stream(%L, 1)', name)), outcome(format('SELECT es_delete_stream(%L)', name)), outcome(format('SELECT es_tombstone_stream(%L)', name))
FROM unnest(ARRAY['', '-', '-1', E'a\tb']) name;
SELECT * FROM story('Bad-1');

BEGIN READ ONLY;
SELECT statement, outcome('SELECT ' || statement) FROM unnest(ARRAY[
    $$es_truncate_stream('Bad-1', 2)$$, $$es_truncate_stream('Nothing-1', 1)$$, $$es_delete_stream('Nothing-1')$$, $$es_tombstone_stream('Bad-1')$$,
    $$es_set_retention('Bad')$$, $$es_scavenge()$$]) statement;
COMMIT;

CREATE FUNCTION try_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT ' || (new.data ->> 'do'); RETURN new; END $$;
CREATE TRIGGER before BEFORE INSERT ON eventstore.event_log FOR EACH ROW WHEN (new.data ? 'do') EXECUTE FUNCTION try_it();
CREATE VIEW tried AS
SELECT statement, outcome(format('SELECT es_append(''Bad-2'', ''T'', jsonb_build_object(''do'', %L))', statement)) FROM unnest(ARRAY[
    $$es_truncate_stream('Bad-1', 2)$$, $$es_delete_stream('Bad-1')$$, $$es_tombstone_stream('Bad-1')$$, $$es_set_retention('Bad')$$, $$es_scavenge()$$]) statement;
TABLE tried;
DROP TRIGGER before ON eventstore.event_log;
CREATE TRIGGER after AFTER INSERT ON eventstore.event_log FOR EACH ROW WHEN (new.data ? 'do') EXECUTE FUNCTION try_it();
TABLE tried;
DROP TRIGGER after ON eventstore.event_log;
SELECT * FROM story('Bad-1');


-- ---- deleted, written again, and then too old ----

-- What expected versions match is the same before and after the events are removed.
SELECT version FROM es_append_batch('{Again-1,Again-1}', '{T,T}', '{1,1}');
SELECT es_delete_stream('Again-1');
SELECT version FROM es_append_batch('{Again-1}', '{T}', '{1}', created_at => '{2001-01-01}');
SELECT es_set_retention('Again', max_age => '1 day');
CREATE FUNCTION matches(expected bigint) RETURNS boolean LANGUAGE plpgsql
    AS $$ BEGIN PERFORM es_check_version('Again-1', expected); RETURN true; EXCEPTION WHEN SQLSTATE 'SE001' THEN RETURN false; END $$;
SELECT matches(0) AS "0", matches(2) AS "2", matches(3) AS "3", matches(-4) AS "-4", (SELECT deleted FROM eventstore.streams WHERE stream = 'Again-1');
SELECT es_scavenge() > 0 AS removed;
SELECT count(*) FROM eventstore.event_log l JOIN eventstore.stream s USING (stream_key) WHERE s.name = 'Again-1';
SELECT matches(0) AS "0", matches(2) AS "2", matches(3) AS "3", matches(-4) AS "-4", (SELECT deleted FROM eventstore.streams WHERE stream = 'Again-1');
SELECT version FROM es_append('Again-1', 'T', expected_version => 3);
-- At least one event: one that is shown, wherever it stands in the stream.
SELECT es_delete_stream('Again-1', -4);
SELECT matches(-4) AS "-4";
SELECT version FROM es_append_batch('{Again-1,Again-1}', '{T,T}', '{1,2}', created_at => ARRAY[now(), '2001-01-01']);
SELECT matches(-4) AS "-4", first_version, last_event_at FROM eventstore.streams WHERE stream = 'Again-1';
SELECT es_truncate_stream('Again-1', 6);
SELECT matches(-4) AS "-4", first_version, last_event_at FROM eventstore.streams WHERE stream = 'Again-1';
SELECT outcome($$ SELECT es_delete_stream('Again-1', -4) $$);
