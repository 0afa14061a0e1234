-- Projections and subscriptions that take what a query matches: filter.

CREATE EXTENSION eventstore;

-- A query as that of es_query(), by types and tags, across streams.
CREATE TABLE seats (stream text, type text, kind text);
SELECT es_create_projection('seats', query => 'INSERT INTO seats SELECT stream, type, ''async'' FROM es_batch ORDER BY position',
    filter => '[{"tags": ["course:1"]}, {"types": ["StudentJoined"]}]');
SELECT es_create_projection('seats inline', query => 'INSERT INTO seats SELECT stream, type, ''inline'' FROM es_batch ORDER BY position', mode => 'inline',
    filter => '[{"tags": ["course:1"]}, {"types": ["StudentJoined"]}]');
SELECT es_create_subscription('seats', filter => '[{"tags": ["course:1"]}, {"types": ["StudentJoined"]}]');
SELECT count(*)
FROM es_append_batch(
    ARRAY['Course-1', 'Course-2', 'Student-7', 'Enrolment-1', 'Enrolment-2', 'Note-1'],
    ARRAY['CourseDefined', 'CourseDefined', 'StudentJoined', 'Subscribed', 'Subscribed', 'Noted'],
    array_fill('{}'::jsonb, ARRAY[6]),
    tags => ARRAY['["course:1"]', '["course:2"]', NULL, '["student:7", "course:1"]', '["course:2", "student:7"]', NULL]::jsonb[]);
SELECT es_wait_for_projection('seats', timeout => '60 s');
SELECT kind, stream, type FROM seats ORDER BY kind, ctid;
SELECT stream, type FROM es_fetch('seats', 'me');

-- The views show it.
SELECT name, mode, types, categories, filter FROM eventstore.projections ORDER BY name;
SELECT name, types, categories, filter FROM eventstore.subscriptions;

-- A rebuild takes the same.
SELECT es_alter_projection('seats', reset => 'DELETE FROM seats WHERE kind = ''async''');
SELECT es_rebuild_projection('seats');
SELECT es_wait_for_projection('seats', timeout => '60 s');
SELECT kind, count(*) FROM seats GROUP BY kind ORDER BY kind;

-- ---- errors ----

CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT arguments, outcome(format('SELECT es_create_projection(%L, query => %L, %s)', 'none', 'SELECT 1 FROM es_batch', arguments)) AS projection,
    outcome(format('SELECT es_create_subscription(%L, %s)', 'none', arguments)) AS subscription
FROM unnest(ARRAY[
    $$filter => '[{}]', types => '{A}'$$,
    $$filter => '[{}]', categories => '{A}'$$,
    $$filter => '[]'$$,
    $$filter => '{}'$$,
    $$filter => 'null'$$,
    $$filter => '[{"types": []}]'$$,
    $$filter => '[{"types": [""]}]'$$,
    $$filter => '[{"types": ["-a"]}]'$$,
    $$filter => '[{"tags": ["a", ""]}]'$$,
    $$filter => '[{"tag": ["a"]}]'$$]) arguments;
SELECT es_create_projection('none', query => 'SELECT 1 FROM es_batch', types => '{A}', filter => '[{"types": ["A"]}]');
SELECT es_create_subscription('seats', if_not_exists => true, filter => NULL);

-- ---- one rule ----

-- Whatever takes an event by a filter, an inline projection at the append, another one that catches
-- up, a subscription, and the read itself, takes the same events.  At random, always the same ones:
-- events of several schema versions, some of which upcasters rename, twice even, and a trigger that
-- gives tags to some.
CREATE FUNCTION same(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT data';
SELECT es_register_upcaster('T1', 1, 'same', 'T2', 1), es_register_upcaster('T2', 1, 'same', 'T3', 1), es_register_upcaster('T4', 2, 'same', 'T1', 1);
CREATE FUNCTION give_tag() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.data ? 'tagged' THEN
        NEW.tags := coalesce(NEW.tags, '{}') || ARRAY['given', 'a1'];
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER give_tag BEFORE INSERT ON eventstore.event_log FOR EACH ROW EXECUTE FUNCTION give_tag();

SELECT setseed(0.25);
CREATE TABLE asked AS
SELECT n, 'filter' AS kind, jsonb_agg(item) AS filter, NULL::text[] AS types, NULL::text[] AS categories
FROM (
    SELECT n, jsonb_strip_nulls(jsonb_build_object(
        'types', CASE WHEN (n + i) % 3 < 2 THEN to_jsonb(ARRAY['T' || (random() * 4)::int, 'T' || (random() * 5)::int]) END,
        'tags', CASE (n + i) % 4
            WHEN 0 THEN to_jsonb(ARRAY['c' || (random() * 60)::int])
            WHEN 1 THEN to_jsonb(ARRAY['b' || (random() * 9)::int, 'a' || (random() * 2)::int])
            WHEN 2 THEN to_jsonb(ARRAY[CASE WHEN n % 5 = 0 THEN 'given' ELSE 'a1' END])
        END)) AS item
    FROM generate_series(1, 24) n, generate_series(1, 1 + n % 3) i) items
GROUP BY n;
INSERT INTO asked
SELECT 100 + n, 'lists', NULL, CASE WHEN n % 3 < 2 THEN ARRAY['T' || (random() * 4)::int, 'T' || (random() * 5)::int] END,
    CASE WHEN n % 3 > 0 THEN ARRAY['S' || (random() * 3)::int, 'S' || (random() * 4)::int] END
FROM generate_series(1, 6) n;

-- Without the notices about types that no event has yet.
CREATE TABLE seen (n int, how text, position bigint);
SET client_min_messages = warning;
SELECT count(es_create_projection('inline ' || n, query => format('INSERT INTO seen SELECT %s, ''inline'', position FROM es_batch ORDER BY position', n),
    mode => 'inline', filter => filter, types => types, categories => categories)) FROM asked;
RESET client_min_messages;
SELECT count(*) AS "live already" FROM eventstore.projections WHERE mode = 'inline' AND state = 'running' AND name LIKE 'inline %';

-- By each of the calls.
SELECT count(*)
FROM generate_series(1, 12) b,
    LATERAL (SELECT array_agg('S' || n % 5 || '-' || n % 7) AS streams, array_agg('T' || (random() * 5)::int) AS types,
        array_agg(CASE WHEN n % 11 = 0 THEN '{"tagged": true}' ELSE '{}' END::jsonb) AS data, array_agg(1 + (random() * 1)::int) AS versions,
        array_agg(CASE WHEN n % 6 > 0 THEN to_jsonb(ARRAY['a' || (random() * 2)::int, 'b' || (random() * 9)::int, 'c' || (random() * 60)::int]) END) AS tags
        FROM generate_series(b, b + 99) n) e,
    LATERAL es_append_batch(e.streams, e.types, e.data, tags => e.tags, schema_versions => e.versions);
SELECT count(*)
FROM generate_series(1, 200) n,
    LATERAL es_append('S' || n % 5 || '-1', 'T' || n % 6, CASE WHEN n % 11 = 0 THEN '{"tagged": true}' ELSE '{}' END::jsonb,
        tags => CASE WHEN n % 6 > 0 THEN ARRAY['a' || n % 3, 'b' || n % 10, 'c' || n % 61] END, schema_version => 1 + n % 2);
SELECT count(*)
FROM generate_series(1, 5) b,
    LATERAL (SELECT jsonb_agg(jsonb_build_object('type', 'T' || n % 6, 'tags', ARRAY['a' || n % 3, 'b' || n % 10], 'schema_version', 1 + n % 2,
        'data', CASE WHEN n % 11 = 0 THEN '{"tagged": true}' ELSE '{}' END::jsonb)) AS events FROM generate_series(b, b + 40) n) e,
    LATERAL es_append_events('S' || b || '-2', events);

-- Catching up, fetched, and read.
SELECT count(es_create_projection('async ' || n, query => format('INSERT INTO seen SELECT %s, ''async'', position FROM es_batch ORDER BY position', n),
    filter => filter, types => types, categories => categories)) FROM asked;
SELECT count(*) FROM asked WHERE NOT es_wait_for_projection('async ' || n, timeout => '100 s');
SELECT count(es_create_subscription('fetched ' || n, filter => filter, types => types, categories => categories, partitions => 1 + n % 4)) FROM asked;
INSERT INTO seen SELECT n, 'fetched', position FROM asked, LATERAL es_fetch('fetched ' || n, 'me', NULL);
INSERT INTO seen SELECT n, 'read', position FROM asked, LATERAL es_query(filter) WHERE kind = 'filter';
INSERT INTO seen SELECT n, 'read', position FROM asked, LATERAL es_read_all(types => types, categories => categories, max_count => NULL) WHERE kind = 'lists';

SELECT kind, how, count(*) AS filters, count(*) FILTER (WHERE positions IS NOT DISTINCT FROM (
        SELECT array_agg(position ORDER BY position) FROM seen s WHERE s.n = a.n AND s.how = 'read')) AS "as read",
    sum(cardinality(positions)) > 1000 AS many, count(DISTINCT cardinality(positions)) > 3 AS different
FROM asked a CROSS JOIN unnest(ARRAY['inline', 'async', 'fetched', 'read']) how,
    LATERAL (SELECT array_agg(position ORDER BY position) AS positions FROM seen s WHERE s.n = a.n AND s.how = how.how) p
GROUP BY kind, how
ORDER BY kind, how;

-- ---- what it costs ----

-- A rare tag of a long log: only its events are read, wherever one catches up.
DROP TRIGGER give_tag ON eventstore.event_log;
SELECT count(es_drop_projection('inline ' || n)), count(es_drop_projection('async ' || n)) FROM asked;
SELECT count(*)
FROM (SELECT array_agg('Long-' || n % 10) AS streams, array_agg('Turn'::text) AS types, array_agg('{}'::jsonb) AS data,
    array_agg(to_jsonb(ARRAY[CASE WHEN n % 4000 = 0 THEN 'rare' ELSE 'often' END])) AS tags FROM generate_series(1, 20000) n) l,
    es_append_batch(streams, types, data, tags => l.tags);
CREATE FUNCTION fetched_so_far() RETURNS bigint
    LANGUAGE sql
    AS $$ SELECT sum(pg_stat_get_xact_tuples_fetched(indexrelid)) FROM pg_index WHERE indrelid = 'eventstore.event_log'::regclass $$;
CREATE FUNCTION fetched_from_log(statement text, OUT events bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    before bigint := fetched_so_far();
BEGIN
    EXECUTE statement;
    events := fetched_so_far() - before;
END $$;
SELECT es_pause_projection('seats');
BEGIN;
SELECT es_create_projection('rare', query => 'SELECT 1 FROM es_batch', filter => '[{"tags": ["rare"]}]');
SELECT fetched_from_log($$SELECT es_run_projection('rare')$$) AS projection;
COMMIT;
SELECT es_create_subscription('rare', filter => '[{"tags": ["rare"]}]');
SELECT fetched_from_log($$SELECT position FROM es_fetch('rare', 'me')$$) AS subscription;
SELECT fetched_from_log($$SELECT position FROM es_query('[{"tags": ["rare"]}]')$$) AS query;
SELECT fetched_from_log($$SELECT position FROM es_query('[{"tags": ["often"]}]', max_count => 100)$$) AS "a page";
