-- Functions of the store in FROM are nodes of the plan.  Whatever stands around them, answers
-- are the same as with eventstore.enable_scan = off, where they are functions as any other.

-- What is hidden stays there.
ALTER SYSTEM SET eventstore.scavenge_interval = 0;
SELECT pg_reload_conf();
\c
CREATE EXTENSION eventstore;

SET timezone = 'UTC';
\pset format unaligned
\pset tuples_only on

-- ---- events ----

CREATE FUNCTION opened_1(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT data || '{"shape": 2}' $$;
CREATE FUNCTION paid_1(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT data || '{"paid": true}' $$;
SELECT count(*)
FROM es_append_batch(
    '{Order-1,Stock-9,Order-2,Order-1,Invoice-1+a,Order-1,Stock-9,Order-2,Invoice-1+b,Invoice-2+a,Order-3,Order-3,Order-3,Gone-1,Gone-1,Dead-1,Log-1,Log-1,Log-1,Log-1,Stock,Order-1,Order-2,Order-4}',
    '{Opened,Reserved,Placed,Paid,Sent,Shipped,Taken,Paid,Sent,Paid,Placed,Paid,Shipped,Placed,Paid,Placed,Said,Said,Said,Said,Counted,Paid,Shipped,Opened}',
    (SELECT array_agg(jsonb_build_object('n', n, 'text', repeat('x', n * 9))) FROM generate_series(1, 24) n),
    metadata => (SELECT array_agg(CASE WHEN n % 3 = 0 THEN '{"correlation_id": "c"}'::jsonb END) FROM generate_series(1, 24) n),
    tags => (SELECT array_agg(CASE n % 4 WHEN 0 THEN '["a"]'::jsonb WHEN 1 THEN '["a", "b"]' WHEN 2 THEN '[]' END) FROM generate_series(1, 24) n),
    schema_versions => (SELECT array_agg(1 + n % 2) FROM generate_series(1, 24) n),
    payloads => (SELECT array_agg(CASE WHEN n % 5 = 0 THEN '\x00ff'::bytea END) FROM generate_series(1, 24) n),
    content_types => (SELECT array_agg(CASE WHEN n % 5 = 0 THEN 'a/b' END) FROM generate_series(1, 24) n));
SELECT es_append('11111111-2222-3333-4444-555555555555', 'Bare');
SELECT es_register_upcaster('Opened', 2, 'opened_1', 'Placed', 1), es_register_upcaster('Paid', 1, 'paid_1');
-- ---- the comparison ----

-- What a statement gives, or does: its rows, or those of a query after it.  Nothing stays.
CREATE FUNCTION outcome(scan boolean, statement text, effect text) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text[] := '{}';
    row record;
BEGIN
    PERFORM set_config('eventstore.enable_scan', scan::text, true);
    DISCARD PLANS;
    IF effect IS NULL THEN
        FOR row IN EXECUTE statement LOOP
            answer := answer || row::text;
        END LOOP;
    ELSE
        EXECUTE statement;
        FOR row IN EXECUTE effect LOOP
            answer := answer || row::text;
        END LOOP;
    END IF;
    RAISE USING ERRCODE = 'TTT00';
EXCEPTION
    WHEN SQLSTATE 'TTT00' THEN
        RETURN answer;
    WHEN OTHERS THEN
        RETURN ARRAY[SQLSTATE || ': ' || SQLERRM];
END $$;
-- Lines of its plan that scan something, by default functions.
CREATE FUNCTION scans(statement text, pattern text DEFAULT '(Custom|Function) Scan') RETURNS SETOF text
    LANGUAGE plpgsql
    AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || statement LOOP
        IF line ~ pattern THEN
            RETURN NEXT regexp_replace(line, '^[ >-]+', '');
        END IF;
    END LOOP;
END $$;
CREATE FUNCTION nodes(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    DISCARD PLANS;
    RETURN (SELECT string_agg(DISTINCT coalesce(substring(line FROM 'Custom Scan \((\w+)\)'), 'Function'), '+')
            FROM scans(statement, 'Custom Scan|Function Scan on (public.)?es_') line);
EXCEPTION
    WHEN OTHERS THEN
        RETURN NULL;
END $$;
CREATE FUNCTION sorted(text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$ SELECT array(SELECT unnest($1) ORDER BY 1) $$;
-- How many rows, or which error, if it is the same with the setting on and off.
CREATE FUNCTION compare(statement text, effect text, ordered boolean) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    as_node text[] := outcome(true, statement, effect);
    as_function text[] := outcome(false, statement, effect);
BEGIN
    IF NOT ordered THEN
        as_node := sorted(as_node);
        as_function := sorted(as_function);
    END IF;
    IF as_node IS DISTINCT FROM as_function THEN
        RETURN format(E'DIFFERENT: %s\n  node:     %s\n  function: %s\n', statement, as_node, as_function);
    END IF;
    RETURN CASE WHEN as_node[1] ~ '^[0-9A-Z]{5}: ' THEN as_node[1] ELSE cardinality(as_node)::text END;
END $$;
-- Of one statement; what is to be compared is its answer, in order.
CREATE FUNCTION alike(statement text, ordered boolean DEFAULT true) RETURNS text
    LANGUAGE sql
    AS $$ SELECT concat_ws(' ', compare(statement, NULL, ordered), nodes(statement)) $$;
-- And what it leaves.
CREATE FUNCTION effects(statement text, effect text) RETURNS text
    LANGUAGE sql
    AS $$ SELECT concat_ws(' ', compare(statement, effect, true), nodes(statement)) $$;
-- It tells a difference.
SELECT regexp_replace(alike($$SELECT 1, current_setting('eventstore.enable_scan')$$), '\s+', ' ', 'g');
SELECT compare('SELECT 1 UNION ALL SELECT 1', 'SELECT 1 WHERE current_setting(''eventstore.enable_scan'') = ''on''', true) ~ '^DIFFERENT';
SELECT alike('SELECT 1/0');

-- Calls that go through every form below.
CREATE TABLE call (n serial, call text);
INSERT INTO call (call) VALUES
    ($$es_read_all()$$),
    ($$es_read_all(9, 7, backwards => true)$$),
    ($$es_read_all(3, NULL, '{Paid,Placed,Unheard}', '{Order,Invoice}', up_to => 22)$$),
    ($$es_read_all(max_count => NULL, backwards => true)$$),
    ($$es_read_stream('Order-1')$$),
    ($$es_read_stream('Order-1', 4, backwards => true)$$),
    ($$es_read_stream('Order-2', 2, 5, types => '{Paid,Shipped}')$$),
    ($$es_read_stream('Log-1')$$),
    ($$es_read_category('Order')$$),
    ($$es_read_category('Invoice', NULL, NULL, 0, 2, group_by => '+')$$),
    ($$es_query('[{"types": ["Paid"]}, {"tags": ["a", "b"]}]')$$),
    ($$es_query('[{}]', 20, NULL, NULL, true, 4)$$),
    ($$es_read_correlation('c')$$),
    ($$es_read_correlation('c', 3, 6)$$),
    ($$es_read_stream('Nobody')$$);
SELECT n, call FROM call ORDER BY n;
-- A form with each of the calls: numbers of rows, and the nodes used.
CREATE FUNCTION form(form text, ordered boolean DEFAULT true) RETURNS text
    LANGUAGE sql
    AS $$
    SELECT concat_ws(' ', string_agg(compare(statement, NULL, ordered), ' ' ORDER BY n), '|', string_agg(DISTINCT nodes(statement), ', '))
    FROM (SELECT n, replace(form, '@', call) FROM call) c (n, statement) $$;

-- Places alone are read from indexes, as long as nothing is hidden.
SELECT form(form), form
FROM unnest(ARRAY[
    $$SELECT position FROM @$$,
    $$SELECT version FROM @$$,
    $$SELECT count(*) FROM @$$,
    $$SELECT count(*) FROM @ WHERE position > 8$$,
    $$SELECT position FROM @ WHERE position < 8 ORDER BY position DESC LIMIT 2$$,
    $$SELECT version FROM @ WHERE version >= 2$$,
    $$SELECT a.position, b.position FROM @ a JOIN @ b USING (position) ORDER BY 1, 2$$]) form;
SELECT alike($$SELECT version FROM es_read_stream('Order-1', types => '{Paid}')$$);
-- Some are hidden.
SELECT es_truncate_stream('Order-3', 3), es_delete_stream('Gone-1'), es_tombstone_stream('Dead-1'), es_set_retention('Log', max_count => 2);
SELECT string_agg(format('%s %s/%s %s %s', position, stream, version, type, schema_version), E'\n') FROM es_read_all();

-- ---- columns ----

SELECT form(form), form
FROM unnest(ARRAY[
    $$SELECT * FROM @$$,
    $$SELECT FROM @$$,
    $$SELECT count(*) FROM @$$,
    $$SELECT 1 FROM @$$,
    $$SELECT position FROM @$$,
    $$SELECT stream FROM @$$,
    $$SELECT version FROM @$$,
    $$SELECT type FROM @$$,
    $$SELECT schema_version FROM @$$,
    $$SELECT data FROM @$$,
    $$SELECT metadata FROM @$$,
    $$SELECT tags FROM @$$,
    $$SELECT event_id FROM @$$,
    $$SELECT created_at FROM @$$,
    $$SELECT content_type FROM @$$,
    $$SELECT payload FROM @$$,
    $$SELECT type, position, type, version + position FROM @$$,
    $$SELECT payload, data ->> 'n', tags[1], stream FROM @$$,
    $$SELECT e FROM @ e$$,
    $$SELECT e, e FROM @ e$$,
    $$SELECT (e).* FROM @ e$$,
    $$SELECT (e).data, (e).type, e.version FROM @ e$$,
    $$SELECT to_jsonb(e), row_to_json(e) FROM @ e$$,
    $$SELECT to_jsonb(e) - 'event_id', position FROM @ e$$,
    $$SELECT e IS NULL, e IS NOT NULL, e.payload IS NULL FROM @ e$$,
    $$SELECT e = e, e < ROW(5, 'x', 1, 'y', 1, '{}', NULL, NULL, NULL, NULL, NULL, NULL)::es_event FROM @ e$$,
    $$SELECT pg_typeof(e), pg_typeof(e.tags) FROM @ e$$,
    $$SELECT e::text, (e::text)::es_event FROM @ e$$,
    $$SELECT a, b, c, d, data FROM @ e (a, b, c, d)$$,
    $$SELECT to_jsonb(e) FROM @ e (a, b, c, d)$$,
    $$SELECT row_to_json(x) FROM (SELECT position, type FROM @) x$$,
    $$SELECT x FROM (SELECT e.type, e FROM @ e) x$$,
    $$SELECT @$$,
    $$SELECT (@).position$$]) form;

-- ---- order, limits, sets, groups ----

SELECT form(form), form
FROM unnest(ARRAY[
    $$SELECT * FROM @ LIMIT 3$$,
    $$SELECT * FROM @ LIMIT 0$$,
    $$SELECT * FROM @ OFFSET 2$$,
    $$SELECT * FROM @ LIMIT 2 OFFSET 1$$,
    $$SELECT * FROM @ LIMIT NULL$$,
    $$SELECT * FROM @ FETCH FIRST 2 ROWS ONLY$$,
    $$SELECT * FROM @ ORDER BY position$$,
    $$SELECT * FROM @ ORDER BY position DESC$$,
    $$SELECT * FROM @ ORDER BY position NULLS FIRST LIMIT 4$$,
    $$SELECT * FROM @ ORDER BY position DESC LIMIT 3$$,
    $$SELECT * FROM @ ORDER BY position DESC NULLS LAST LIMIT 3$$,
    $$SELECT * FROM @ ORDER BY version, position$$,
    $$SELECT * FROM @ ORDER BY version DESC, position$$,
    $$SELECT * FROM @ ORDER BY stream COLLATE "C", version DESC$$,
    $$SELECT * FROM @ ORDER BY position, random()$$,
    $$SELECT type FROM @ ORDER BY position$$,
    $$SELECT * FROM @ ORDER BY type COLLATE "C", position FETCH FIRST 3 ROWS WITH TIES$$,
    $$SELECT min(position), max(position), min(version), max(version), sum(version), array_agg(type) FROM @$$,
    $$SELECT array_agg(type ORDER BY position DESC), count(DISTINCT type), count(payload) FILTER (WHERE version > 1) FROM @$$,
    $$SELECT type, count(*) FROM @ GROUP BY type ORDER BY type$$,
    $$SELECT position, count(*) FROM @ GROUP BY position ORDER BY position$$,
    $$SELECT stream, type, count(*), jsonb_agg(e) FROM @ e GROUP BY ROLLUP (stream, type) ORDER BY stream, type$$,
    $$SELECT type FROM @ GROUP BY type HAVING count(*) > 1 ORDER BY 1$$,
    $$SELECT DISTINCT type FROM @ ORDER BY type$$,
    $$SELECT DISTINCT ON (position) position, type FROM @ ORDER BY position$$,
    $$SELECT DISTINCT ON (stream) e FROM @ e ORDER BY stream, version DESC$$,
    $$SELECT position, row_number() OVER (), lag(type) OVER (ORDER BY position), sum(version) OVER (PARTITION BY stream ORDER BY position) FROM @ ORDER BY position$$,
    $$SELECT first_value(e) OVER w, last_value(position) OVER w FROM @ e WINDOW w AS (ORDER BY position ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) ORDER BY position$$,
    $$SELECT * FROM @ UNION ALL SELECT * FROM @$$,
    $$SELECT position, type FROM @ UNION ALL SELECT position, type FROM es_read_all(6) ORDER BY 1, 2$$,
    $$SELECT position FROM @ UNION ALL SELECT position FROM es_read_stream('Order-2') ORDER BY position DESC LIMIT 3$$,
    $$SELECT position, type FROM (SELECT * FROM @ UNION ALL SELECT * FROM es_read_stream('Log-1')) x WHERE type IN ('Paid', 'Said') AND position > 5 ORDER BY position LIMIT 4$$,
    $$SELECT count(*) FROM (SELECT e FROM @ e UNION ALL SELECT f FROM es_query('[{}]') f) x WHERE (e).type = 'Paid'$$,
    $$SELECT position, type FROM @ UNION SELECT position, type FROM es_read_all(6) ORDER BY 1$$,
    $$SELECT position FROM @ INTERSECT SELECT position FROM es_read_category('Order') ORDER BY 1$$,
    $$SELECT position FROM @ EXCEPT ALL SELECT position FROM es_read_stream('Order-1') ORDER BY 1$$,
    $$(SELECT type FROM @ LIMIT 2) UNION ALL (SELECT stream FROM @ ORDER BY position DESC LIMIT 2)$$,
    $$SELECT * FROM @ e WHERE e.version % 2 = 1 AND data ? 'n'$$,
    $$SELECT * FROM @ e WHERE e IS NOT NULL$$,
    $$SELECT * FROM @ WHERE false$$,
    $$SELECT * FROM @ WHERE NULL$$,
    $$SELECT * FROM @ WHERE random() < 2 AND position > 3$$,
    $$SELECT * FROM @ WHERE (SELECT count(*) FROM es_read_stream('Order-1')) = 4$$,
    $$SELECT generate_series(1, version), type FROM @$$,
    $$SELECT *, unnest(tags) FROM @$$,
    $$SELECT grouping(type), type, count(*) FROM @ GROUP BY GROUPING SETS ((type), ()) ORDER BY 1, 2$$]) form;

-- ---- joins ----

CREATE TABLE thing (id int PRIMARY KEY, name text, after bigint);
INSERT INTO thing VALUES (1, 'Order-1', 0), (2, 'Order-2', 3), (3, 'Order-1', 9), (4, NULL, NULL), (5, 'Nobody', 0), (6, 'Log-1', 18), (7, 'Order-2', 3), (8, 'Order-2', 3);
ANALYZE thing;
CREATE TABLE setting (name text, value text);
SELECT form(form, false), form
FROM unnest(ARRAY[
    $$SELECT a.position, b.type FROM @ a JOIN @ b USING (position)$$,
    $$SELECT a.position, b.position FROM @ a, @ b$$,
    $$SELECT a, b.type FROM @ a LEFT JOIN es_read_all(7) b ON b.position = a.position + 1$$,
    $$SELECT t.id, e FROM thing t LEFT JOIN @ e ON e.stream = t.name AND e.position > t.after$$,
    $$SELECT t.id, e.version FROM thing t LEFT JOIN @ e ON e.version = t.id AND t.after = 3$$,
    $$SELECT t.id, e.version FROM thing t FULL JOIN @ e ON e.version = t.id$$,
    $$SELECT t.id, e IS NULL FROM @ e RIGHT JOIN thing t ON e.version = t.id AND e.type = 'Paid'$$,
    $$SELECT t.id, coalesce(x.one, 0) FROM thing t LEFT JOIN (SELECT 1 AS one, e.* FROM @ e) x ON x.version = t.id$$,
    -- joins that are removed
    $$SELECT max(e.stream), count(*) FROM @ e LEFT JOIN thing t ON t.id = e.schema_version$$,
    $$SELECT e.type, count(*) FROM @ e LEFT JOIN thing t ON t.id = e.version WHERE e.position > 3 GROUP BY e.type$$,
    $$SELECT e.type FROM @ e LEFT JOIN thing t ON t.id = e.version ORDER BY e.position$$,
    $$SELECT DISTINCT e.type FROM @ e LEFT JOIN thing t ON t.id = e.position$$,
    $$SELECT * FROM thing t NATURAL JOIN (SELECT version::int AS id, type FROM @) x$$,
    $$SELECT * FROM thing t, LATERAL (SELECT * FROM @ e WHERE e.version = t.id) x$$,
    $$SELECT * FROM thing t, LATERAL (SELECT * FROM @ e WHERE e.version >= t.id ORDER BY e.position DESC LIMIT 2) x$$,
    $$SELECT * FROM thing t LEFT JOIN LATERAL (SELECT t.id + e.version AS sum, e.type FROM @ e WHERE e.stream = t.name) x ON true$$,
    $$SELECT t.id, (SELECT count(*) FROM @ e WHERE e.stream = t.name) FROM thing t$$,
    $$SELECT t.id, (SELECT e FROM @ e WHERE e.position > t.after LIMIT 1) FROM thing t$$,
    $$SELECT t.id, array(SELECT e.type FROM @ e WHERE e.position <= t.after ORDER BY position DESC) FROM thing t$$,
    $$SELECT t.id FROM thing t WHERE t.name IN (SELECT stream FROM @)$$,
    $$SELECT t.id FROM thing t WHERE t.name NOT IN (SELECT stream FROM @)$$,
    $$SELECT t.id FROM thing t WHERE EXISTS (SELECT FROM @ e WHERE e.stream = t.name AND e.version = t.id)$$,
    $$SELECT t.id FROM thing t WHERE NOT EXISTS (SELECT FROM @ e WHERE e.stream = t.name)$$,
    $$SELECT t.id FROM thing t WHERE t.after >= ALL (SELECT position FROM @)$$,
    $$SELECT t.id FROM thing t WHERE (t.name, t.id) IN (SELECT stream, version FROM @)$$,
    $$SELECT e.* FROM @ e WHERE e.stream IN (SELECT name FROM thing)$$,
    $$SELECT e.* FROM @ e WHERE EXISTS (SELECT FROM thing t WHERE t.id = e.version AND t.name = e.stream)$$,
    $$SELECT a.position, f FROM @ a, LATERAL es_read_stream(a.stream, a.version) f$$,
    $$SELECT a.position, f.position FROM @ a LEFT JOIN LATERAL es_read_all(a.position, 1, ARRAY[a.type]) f ON f.version > 1$$,
    $$SELECT a.position, f.n FROM @ a, LATERAL (SELECT count(*) FROM es_read_category(es_category(a.stream), a.position)) f (n)$$,
    $$SELECT a.position, f.type FROM @ a CROSS JOIN LATERAL es_query(jsonb_build_array(jsonb_build_object('types', jsonb_build_array(a.type))), a.position - 1, 2) f$$,
    $$SELECT a.position, f.type FROM @ a, LATERAL es_read_correlation(a.metadata ->> 'correlation_id') f WHERE a.metadata IS NOT NULL$$,
    $$SELECT e.position, u.tag FROM @ e, unnest(e.tags) u (tag)$$,
    $$SELECT e.position, j.* FROM @ e LEFT JOIN LATERAL jsonb_each_text(e.data) j ON true$$,
    $$SELECT * FROM generate_series(1, 3) g, @ e WHERE e.version = g$$,
    $$SELECT * FROM (VALUES (1), (2)) v (n) CROSS JOIN LATERAL (SELECT type, v.n FROM @ OFFSET v.n) x$$]) form;

-- Read again and again: as the inner side of nested loops.
CREATE FUNCTION looped(form text) RETURNS text LANGUAGE sql
    SET enable_material = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_memoize = off
    AS $$ SELECT form(form, false) $$;
SELECT looped(form), form
FROM unnest(ARRAY[
    $$SELECT t.id, e FROM thing t LEFT JOIN @ e ON e.stream = t.name$$,
    $$SELECT t.id, e.position FROM thing t JOIN @ e ON e.position > t.after$$,
    $$SELECT t.id, e.position FROM thing t JOIN @ e ON e.position > t.after AND e.type = 'Paid'$$,
    $$SELECT t.id FROM thing t WHERE EXISTS (SELECT FROM @ e WHERE e.version = t.id)$$,
    $$SELECT t.id FROM thing t WHERE NOT EXISTS (SELECT FROM @ e WHERE e.version = t.id)$$,
    $$SELECT a.position, b.position FROM @ a JOIN @ b ON b.position < a.position$$,
    $$SELECT a.position, b.position, c.version FROM @ a, @ b, es_read_stream('Order-2') c WHERE a.version = b.version AND c.type = b.type$$,
    $$SELECT count(*) FROM thing t, @ e$$,
    $$SELECT t.id, x.* FROM thing t, LATERAL (SELECT e.position FROM @ e WHERE e.position > t.after LIMIT 2) x$$,
    $$SELECT t.id, x.* FROM thing t, LATERAL (SELECT e.position, f.type FROM @ e, es_read_stream(t.name) f WHERE f.version = e.version) x WHERE t.name IS NOT NULL$$]) form;

-- ---- sub-queries, views, functions ----

SELECT form(form), form
FROM unnest(ARRAY[
    $$SELECT * FROM (SELECT position, type FROM @) x WHERE type = 'Paid'$$,
    $$SELECT * FROM (SELECT position, type FROM @ OFFSET 0) x WHERE type = 'Paid'$$,
    $$SELECT * FROM (SELECT position, type FROM @ LIMIT 5) x WHERE type = 'Paid'$$,
    $$WITH x AS (SELECT * FROM @) SELECT * FROM x$$,
    $$WITH x AS MATERIALIZED (SELECT * FROM @) SELECT type FROM x WHERE version = 2$$,
    $$WITH x AS NOT MATERIALIZED (SELECT * FROM @) SELECT type FROM x WHERE type = 'Placed'$$,
    $$WITH x AS (SELECT e FROM @ e) SELECT a, (b.e).position FROM x a JOIN x b ON a = b ORDER BY 2$$,
    $$WITH x AS MATERIALIZED (SELECT * FROM @) SELECT 1$$,
    $$WITH x AS MATERIALIZED (SELECT * FROM @) SELECT * FROM x LIMIT 2$$,
    $$WITH RECURSIVE x AS ((SELECT position, 1 AS n FROM @ LIMIT 2) UNION ALL SELECT x.position, n + 1 FROM x JOIN @ e USING (position) WHERE n < 3) SELECT * FROM x ORDER BY n, position$$,
    $$WITH x AS (INSERT INTO setting SELECT stream, type FROM @ RETURNING *) SELECT * FROM x$$,
    $$WITH x AS (DELETE FROM thing WHERE id IN (SELECT version FROM @) RETURNING id) SELECT x.id, e FROM x JOIN @ e ON e.version = x.id ORDER BY 1, e.position$$,
    $$WITH x AS (UPDATE thing SET after = 7 WHERE id = 1 RETURNING after) SELECT e.* FROM x, @ e WHERE e.position > x.after ORDER BY e.position$$,
    $$VALUES ((SELECT count(*) FROM @), (SELECT max(type) FROM @))$$,
    $$SELECT CASE WHEN EXISTS (SELECT FROM @) THEN 'some' ELSE 'none' END$$,
    $$SELECT (SELECT e FROM @ e LIMIT 1), (SELECT x FROM (SELECT position, type FROM @ LIMIT 1) x)$$,
    $$SELECT * FROM @ WITH ORDINALITY$$,
    $$SELECT position, n FROM @ WITH ORDINALITY e (position, b, c, d, f, g, h, i, j, k, l, m, n)$$,
    $$SELECT * FROM ROWS FROM (@)$$,
    $$SELECT * FROM ROWS FROM (@) WITH ORDINALITY$$,
    $$SELECT * FROM ROWS FROM (@, generate_series(1, 9), @)$$,
    $$SELECT t.id, e.position FROM thing t, @ e WHERE t.id = e.version ORDER BY 1, 2 FOR UPDATE OF t$$,
    $$SELECT t.id FROM thing t WHERE t.id IN (SELECT version FROM @) ORDER BY 1 FOR SHARE$$,
    $$SELECT e.position FROM @ e FOR UPDATE$$,
    $$SELECT x.position FROM (SELECT * FROM @) x FOR NO KEY UPDATE$$,
    $$UPDATE thing t SET after = e.position FROM @ e WHERE e.version = t.id RETURNING t.*, e.version$$,
    $$UPDATE thing SET after = (SELECT max(position) FROM @) WHERE id < 3 RETURNING *$$,
    $$DELETE FROM thing t USING @ e WHERE e.version = t.id AND e.stream = t.name RETURNING t.*, e$$,
    $$INSERT INTO thing SELECT 100 + position, stream, version FROM @ RETURNING *$$,
    $$INSERT INTO thing SELECT version, stream, position FROM @ ON CONFLICT (id) DO NOTHING RETURNING *$$,
    $$INSERT INTO thing SELECT DISTINCT ON (version) version, stream, position FROM @ ORDER BY version, position ON CONFLICT (id) DO UPDATE SET after = EXCLUDED.after RETURNING *$$]) form;

-- Views and functions of each call.
SELECT format('CREATE VIEW plain_%s AS SELECT * FROM %s', n, call),
    format('CREATE VIEW barrier_%s WITH (security_barrier) AS SELECT * FROM %s WHERE version < 4', n, call),
    format('CREATE MATERIALIZED VIEW kept_%s AS SELECT * FROM %s', n, call),
    format('CREATE FUNCTION inline_%s() RETURNS SETOF es_event STABLE LANGUAGE sql AS %L', n, 'SELECT * FROM ' || call),
    format('CREATE FUNCTION whole_%s(int) RETURNS TABLE (a bigint, b text) VOLATILE STRICT LANGUAGE sql AS %L', n, 'SELECT position, type FROM ' || call || ' WHERE version >= $1'),
    format('CREATE FUNCTION body_%s() RETURNS SETOF es_event BEGIN ATOMIC SELECT * FROM %s; END', n, call),
    format('CREATE FUNCTION loops_%s(lowest bigint) RETURNS SETOF text LANGUAGE plpgsql AS %L', n,
        'DECLARE e es_event; n int := 0; BEGIN FOR e IN SELECT * FROM ' || call || ' WHERE version >= lowest LOOP n := n + 1; RETURN NEXT n || e::text; EXIT WHEN n = 4; END LOOP; END'),
    format('CREATE FUNCTION query_%s(kind text) RETURNS TABLE (a bigint, b es_event) LANGUAGE plpgsql AS %L', n,
        'BEGIN RETURN QUERY SELECT e.position, e FROM ' || call || ' e WHERE e.type = kind; RETURN QUERY EXECUTE ' || quote_literal('SELECT e.position, e FROM ' || call || ' e WHERE e.type = $1 LIMIT 1') || ' USING kind; END'),
    format('CREATE FUNCTION into_%s() RETURNS text LANGUAGE plpgsql AS %L', n,
        'DECLARE a record; b bigint; BEGIN SELECT * INTO a FROM ' || call || '; SELECT count(*) INTO b FROM ' || call || '; PERFORM FROM ' || call || '; RETURN a::text || b || FOUND; END')
FROM call ORDER BY n \gexec
CREATE FUNCTION of_each(form text) RETURNS text
    LANGUAGE sql
    AS $$
    SELECT concat_ws(' ', string_agg(compare(statement, NULL, true), ' ' ORDER BY n), '|', string_agg(DISTINCT nodes(statement), ', '))
    FROM (SELECT n, replace(form, '@', n::text) FROM call) c (n, statement) $$;
SELECT of_each(form), form
FROM unnest(ARRAY[
    $$TABLE plain_@$$,
    $$SELECT type, p FROM plain_@ p WHERE type = 'Paid' AND position > 3$$,
    $$SELECT a.position FROM plain_@ a JOIN plain_@ b USING (position) ORDER BY 1$$,
    $$SELECT * FROM barrier_@$$,
    $$SELECT position FROM barrier_@ WHERE type = 'Paid' AND data::text <> ''$$,
    $$SELECT * FROM kept_@ EXCEPT SELECT * FROM plain_@$$,
    $$SELECT * FROM inline_@()$$,
    $$SELECT type FROM inline_@() WHERE type = 'Paid'$$,
    $$SELECT inline_@()$$,
    $$SELECT * FROM whole_@(2)$$,
    $$SELECT t.id, w.* FROM thing t, whole_@(t.id) w ORDER BY 1, a$$,
    $$SELECT * FROM body_@()$$,
    $$SELECT * FROM loops_@(2)$$,
    $$SELECT t.id, loops_@(t.id) FROM thing t ORDER BY t.id$$,
    $$SELECT * FROM query_@('Paid')$$,
    $$SELECT into_@()$$]) form;

-- ---- conditions ----

-- What a scan may use of them changes nothing but what it looks at.
SELECT form('SELECT position, type, version FROM @ e WHERE ' || condition), condition
FROM unnest(ARRAY[
    $$type = 'Paid'$$,
    $$'Paid' = type$$,
    $$type = 'Placed'$$,
    $$type = 'Opened'$$,
    $$type = 'Unheard'$$,
    $$type = ''$$,
    $$type = NULL$$,
    $$type <> 'Paid'$$,
    $$type IS DISTINCT FROM 'Paid'$$,
    $$type = 'Paid'::varchar$$,
    $$type = 'Paid'::name$$,
    $$type::varchar(3) = 'Pai'$$,
    $$type = 'Paid' COLLATE "C"$$,
    $$type COLLATE "POSIX" = 'Paid'$$,
    $$type LIKE 'P%'$$,
    $$starts_with(type, 'P')$$,
    $$type > 'Paid'$$,
    $$type >= 'Paid' AND type <= 'Paid'$$,
    $$type IN ('Paid', 'Placed')$$,
    $$type IN ('Paid', NULL)$$,
    $$type NOT IN ('Paid', 'Placed')$$,
    $$type = ANY ('{Paid,Shipped,Paid}')$$,
    $$type = ANY ('{}')$$,
    $$type = ANY ('{NULL}')$$,
    $$type = ANY (NULL::text[])$$,
    $$type = ANY ('{Paid,NULL,Sent}')$$,
    $$type = ANY ('{{Paid,Sent},{Said,NULL}}')$$,
    $$type = ANY ('[5:6]={Paid,Placed}')$$,
    $$type = ANY ('{Paid,Sent}'::varchar[])$$,
    $$type = ANY (string_to_array('Paid Sent', ' '))$$,
    $$type = ANY (array(SELECT 'Paid'))$$,
    $$type = ALL ('{Paid,Paid}')$$,
    $$type <> ALL ('{Paid}')$$,
    $$type = 'Paid' AND type = ANY ('{Placed,Shipped}')$$,
    $$type = 'Paid' AND type IN ('Paid', 'Sent') AND version = 2$$,
    $$type = 'Paid' OR stream = 'Order-1'$$,
    $$NOT type = 'Paid'$$,
    $$(type = 'Paid') IS NOT TRUE$$,
    $$stream = 'Order-1'$$,
    $$'Order-2' = stream$$,
    $$stream = 'Nobody'$$,
    $$stream = ''$$,
    $$stream = NULL$$,
    $$stream = 'Order-1' AND stream = ANY ('{Order-2,Order-3}')$$,
    $$stream = 'Order-1' AND type = 'Paid'$$,
    $$stream = 'Gone-1'$$,
    $$stream = 'Dead-1'$$,
    $$stream = 'Log-1' AND type = 'Said'$$,
    $$stream IN ('Order-1', 'Order-2')$$,
    $$stream = type$$,
    $$position = 8$$,
    $$position = 8::int2$$,
    $$position = 8::numeric$$,
    $$position = 8.0$$,
    $$position = 8.5::float8$$,
    $$8 = position$$,
    $$position = 12$$,
    $$position < 12$$,
    $$position <= 12::int2$$,
    $$position >= 12::bigint$$,
    $$position > 12$$,
    $$position <> 12$$,
    $$12::int2 > position$$,
    $$12 >= position$$,
    $$12::bigint <= position$$,
    $$12 < position$$,
    $$position BETWEEN 8 AND 12$$,
    $$position > 4 AND position > 9 AND position < 22 AND position <= 16$$,
    $$position > 12 AND position < 8$$,
    $$position IN (3, 8, 12)$$,
    $$position = NULL$$,
    $$position < NULL::int$$,
    $$position > 0$$,
    $$position >= -1$$,
    $$position < 0$$,
    $$position = -7$$,
    $$position > 9223372036854775807$$,
    $$position >= 9223372036854775807$$,
    $$position < 9223372036854775807$$,
    $$position > -9223372036854775808$$,
    $$position >= -9223372036854775808$$,
    $$position < -9223372036854775808$$,
    $$position <= -9223372036854775808$$,
    $$position = -9223372036854775808$$,
    $$position > 1000000$$,
    $$position = 1000000 AND type = 'Paid'$$,
    $$position + 0 > 12$$,
    $$version = 2$$,
    $$version < 3$$,
    $$version <= 2::int2$$,
    $$version >= 2$$,
    $$2 < version$$,
    $$version > 1 AND version < 4 AND position > 3 AND type = 'Paid'$$,
    $$version = 0$$,
    $$version > 9223372036854775807$$,
    $$version IN (1, 3)$$,
    $$version = position$$,
    $$position > (SELECT 8)$$,
    $$type = (SELECT 'Paid')$$,
    $$position > 5 + (random() * 0)::int AND type = 'Paid'$$,
    $$type = lower('PAID') OR NULL$$,
    $$type = initcap('paid')$$,
    $$created_at <= now() AND position <= es_head()$$,
    $$data ->> 'n' > '3' AND type = 'Paid'$$,
    $$e.schema_version = 2 AND type = 'Placed'$$,
    $$true AND type = 'Paid'$$,
    $$'a' = ANY (tags) AND type = 'Paid'$$]) condition;

-- With other collations: that of a column is the database's.
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT form('SELECT position, type FROM @ e WHERE ' || condition), condition
FROM unnest(ARRAY[
    $$type = 'PAID' COLLATE caseless$$,
    $$type COLLATE caseless IN ('paid', 'SENT')$$,
    $$type = ANY ('{pAID}' COLLATE caseless)$$,
    $$stream = 'ORDER-1' COLLATE caseless$$,
    $$type = 'Paid' COLLATE "en-x-icu"$$,
    $$type COLLATE "POSIX" = 'Paid' COLLATE "POSIX"$$]) condition;

-- Of an event's names, each finds it only where it is shown with it.
SELECT alike(statement), statement
FROM unnest(ARRAY[
    $$SELECT position, type FROM es_read_all(NULL, NULL) WHERE type = 'Opened'$$,
    $$SELECT position, type FROM es_read_all(NULL, NULL) WHERE type = 'Placed'$$,
    $$SELECT position, type FROM es_read_all(NULL, NULL, '{Opened}') WHERE type = 'Placed'$$,
    $$SELECT position, type FROM es_read_all(NULL, NULL, '{Opened}') WHERE type = 'Opened'$$,
    $$SELECT position, type FROM es_read_all(NULL, NULL, '{Placed}') WHERE type IN ('Opened', 'Placed')$$,
    $$SELECT position, type FROM es_query('[{"types": ["Opened"]}]') WHERE type = 'Placed'$$,
    $$SELECT position, type, data FROM es_read_stream('Order-4') WHERE type = 'Placed'$$,
    $$SELECT position, type, data FROM es_read_stream('Order-4', types => '{Opened}') WHERE type = 'Placed'$$,
    $$SELECT position, type, data FROM es_read_stream('Order-1', types => '{Opened}') WHERE type = 'Opened'$$]) statement;

-- max_count counts what the read returns, not what a condition leaves of it; so does LIMIT the other way round.
SELECT alike(format(statement, call)), format(statement, call)
FROM unnest(ARRAY[
    $$SELECT position FROM %s WHERE type = 'Paid'$$,
    $$SELECT position FROM %s WHERE stream = 'Order-2'$$,
    $$SELECT position FROM %s WHERE position > 8$$,
    $$SELECT position FROM %s WHERE position < 8$$,
    $$SELECT position FROM %s WHERE position = 8$$,
    $$SELECT position FROM %s WHERE version >= 2$$,
    $$SELECT position FROM %s WHERE type = 'Paid' LIMIT 1$$,
    $$SELECT position FROM %s WHERE type = 'Paid' AND position >= 8 ORDER BY position DESC LIMIT 1$$]) WITH ORDINALITY s (statement, n),
    unnest('{"es_read_all(2, 6)","es_read_all(NULL, 6, backwards => true)","es_read_category(''Order'', NULL, 4)","es_query(''[{}]'', 3, 5)","es_query(''[{}]'', 15, 5, NULL, true)","es_read_stream(''Order-1'', 2, 2)","es_read_correlation(''c'', 2)"}'::text[])
        WITH ORDINALITY c (call, m)
ORDER BY n, m;

-- A condition checks nothing and does not raise; an argument does, and both are refused alike.
SELECT alike(statement), statement
FROM unnest(ARRAY[
    $$SELECT * FROM es_read_all() WHERE position > 5000000000$$,
    $$SELECT * FROM es_read_all(backwards => true) WHERE position < 5000000000 AND position > 20$$,
    $$SELECT * FROM es_read_all(5000000000)$$,
    $$SELECT * FROM es_read_all(5000000000) WHERE position < 4$$,
    $$SELECT * FROM es_read_all(5000000000) WHERE type = 'Unheard' LIMIT 1$$,
    $$SELECT * FROM es_read_all(5000000000) LIMIT 0$$,
    $$SELECT * FROM es_read_all(5000000000) WHERE false$$,
    $$SELECT count(*) FROM es_read_all(5000000000, 0)$$,
    $$SELECT * FROM es_read_all(5000000000, backwards => true)$$,
    $$SELECT * FROM es_read_category('Order', 5000000000)$$,
    $$SELECT * FROM es_query('[{}]', 5000000000)$$,
    $$SELECT * FROM es_read_correlation('c', NULL, 5000000000)$$,
    $$SELECT count(*) FROM es_read_stream('Order-1', 5000000000)$$,
    $$SELECT t.id, e.position FROM thing t, LATERAL es_read_all(t.after * 1000000000) e$$,
    $$SELECT * FROM thing t LEFT JOIN es_read_all(5000000000) e ON false$$,
    $$SELECT * FROM thing t LEFT JOIN es_read_all(5000000000) e ON t.id = 77 WHERE t.id = 77$$,
    -- null
    $$SELECT count(*) FROM es_read_all(NULL, NULL, NULL, NULL, false, NULL, NULL)$$,
    $$SELECT * FROM es_read_all(backwards => NULL)$$,
    $$SELECT * FROM es_read_stream(NULL)$$,
    $$SELECT * FROM es_read_stream('Order-1', backwards => NULL)$$,
    $$SELECT position FROM es_read_stream('Order-1', NULL, NULL, false, NULL)$$,
    $$SELECT * FROM es_read_category(NULL)$$,
    $$SELECT * FROM es_read_category('Order', consumer_group_size => 2)$$,
    $$SELECT * FROM es_read_category('Order', consumer_group_member => 2)$$,
    $$SELECT * FROM es_read_category('Order', group_by => '+')$$,
    $$SELECT * FROM es_query(NULL)$$,
    $$SELECT * FROM es_query('[{}]', backwards => NULL)$$,
    $$SELECT * FROM es_read_correlation(NULL)$$,
    $$SELECT * FROM es_read_correlation('c', key => NULL)$$,
    $$SELECT * FROM es_read_all(types => '{Paid,NULL}')$$,
    $$SELECT * FROM es_read_all(categories => '{NULL}')$$,
    $$SELECT * FROM es_read_stream('Order-1', types => '{NULL}')$$,
    -- the least and the greatest
    $$SELECT position FROM es_read_all(0, 2147483647)$$,
    $$SELECT position FROM es_read_all(0, backwards => true)$$,
    $$SELECT position FROM es_read_all(25, up_to => 9223372036854775807)$$,
    $$SELECT position FROM es_read_all(up_to => 0)$$,
    $$SELECT position FROM es_read_all(backwards => true, up_to => 0)$$,
    $$SELECT position FROM es_read_all(9223372036854775807)$$,
    $$SELECT position FROM es_read_all(max_count => 0)$$,
    $$SELECT position FROM es_read_all(max_count => 1)$$,
    $$SELECT position FROM es_read_all(types => '{}')$$,
    $$SELECT position FROM es_read_all(categories => '{}')$$,
    $$SELECT position FROM es_read_all(types => '{}', categories => '{}') WHERE type = 'Paid'$$,
    $$SELECT position FROM es_read_stream('Order-1', 9223372036854775807)$$,
    $$SELECT position FROM es_read_stream('Order-1', 9223372036854775807, backwards => true)$$,
    $$SELECT position FROM es_read_stream('Order-1', 0)$$,
    $$SELECT position FROM es_read_stream('Order-1', 0, backwards => true)$$,
    $$SELECT position FROM es_read_stream('Order-1', 1, 0)$$,
    $$SELECT position FROM es_read_stream('Order-1', types => '{}')$$,
    $$SELECT position FROM es_read_category('')$$,
    $$SELECT position FROM es_read_category('Order', 0, 0)$$,
    $$SELECT position FROM es_query('[{}]', 0, 0)$$,
    $$SELECT position FROM es_read_correlation('c', 0)$$,
    $$SELECT position FROM es_read_correlation('')$$,
    -- out of range
    $$SELECT * FROM es_read_all(-1)$$,
    $$SELECT * FROM es_read_all(max_count => -1)$$,
    $$SELECT * FROM es_read_all(up_to => -1)$$,
    $$SELECT * FROM es_read_all(types => '{{Paid},{Sent}}')$$,
    $$SELECT * FROM es_read_all(types => '{""}')$$,
    $$SELECT * FROM es_read_all(types => '{-x}')$$,
    $$SELECT * FROM es_read_all(wait => '-1 s')$$,
    $$SELECT * FROM es_read_all(wait => '2 min')$$,
    $$SELECT * FROM es_read_all(backwards => true, wait => '1 s')$$,
    $$SELECT * FROM es_read_stream('')$$,
    $$SELECT * FROM es_read_stream('-x')$$,
    $$SELECT * FROM es_read_stream('Order-1', -1)$$,
    $$SELECT * FROM es_read_stream('Order-1', max_count => -1)$$,
    $$SELECT * FROM es_read_stream(E'a\nb')$$,
    $$SELECT * FROM es_read_category('Order', NULL, NULL, 2, 2)$$,
    $$SELECT * FROM es_read_category('Order', NULL, NULL, 0, 0)$$,
    $$SELECT * FROM es_read_category('Order', NULL, NULL, 0, 1, group_by => '++')$$,
    $$SELECT * FROM es_query('[]')$$,
    $$SELECT * FROM es_query('{}')$$,
    $$SELECT * FROM es_query('[{"types": []}]')$$,
    $$SELECT * FROM es_query('[{"tag": ["a"]}]')$$,
    $$SELECT * FROM es_read_correlation('c', key => 'other')$$,
    $$SELECT * FROM es_read_correlation('c', -1)$$,
    $$SELECT * FROM es_read_correlation('c', after_position => -1)$$,
    -- a wait that there is something for, or not
    $$SELECT position FROM es_read_all(3, wait => '10 s') WHERE type = 'Paid'$$,
    $$SELECT position FROM es_read_category('Order', 3, wait => '10 s') WHERE stream = 'Order-1' LIMIT 1$$,
    $$SELECT position FROM es_query('[{"types": ["Said"]}]', 3, wait => '10 s')$$,
    $$SELECT position FROM es_query('[{"types": ["Unheard"]}]', wait => '10 ms')$$,
    $$SELECT position FROM es_read_all(25, wait => '10 ms') WHERE position > 3$$,
    $$SELECT position FROM es_read_all(25, up_to => 25, wait => '10 s')$$,
    -- errors that are made of rows
    $$SELECT 1 / (position - 8) FROM es_read_all()$$,
    $$SELECT 1 / (position - 8) FROM es_read_all() LIMIT 3$$,
    $$SELECT position FROM es_read_all() WHERE 1 / (position - 8) > 5$$,
    $$SELECT e.position FROM thing t, LATERAL es_read_all(1 / (t.id - 3)) e$$,
    $$SELECT f.position FROM es_read_stream('Order-1') e, LATERAL es_read_all(20 / (3 - e.version)) f$$]) statement;

-- ---- parameters, cached plans ----

PREPARE of_all(bigint, int, text[], text[], boolean, bigint, text, bigint) AS
    SELECT * FROM es_read_all($1, $2, $3, $4, $5, NULL, $6) WHERE ($7 IS NULL OR type = $7) AND position > $8;
PREPARE of_type(text, bigint) AS SELECT position, type FROM es_read_all(NULL, NULL) WHERE type = $1 AND position < $2;
PREPARE of_types(text[], smallint) AS SELECT position, type FROM es_read_all(max_count => NULL) WHERE type = ANY ($1) AND $2 <= position;
PREPARE of_place(int, text) AS SELECT position FROM es_read_category('Order', max_count => NULL) WHERE position = $1 OR stream = $2;
PREPARE of_stream(text, bigint, int, boolean, text[], int) AS SELECT e FROM es_read_stream($1, $2, $3, $4, $5) e WHERE version >= $6;
PREPARE of_category(text, bigint, int, int, int, interval, text) AS SELECT * FROM es_read_category($1, $2, $3, $4, $5, $6, $7);
PREPARE of_query(jsonb, bigint, int, interval, boolean, bigint) AS SELECT * FROM es_query($1, $2, $3, $4, $5, $6) ORDER BY position;
PREPARE of_correlation(text, int, bigint, text) AS SELECT count(*), max(position) FROM es_read_correlation($1, $2, $3, $4);
PREPARE of_join(bigint, text) AS SELECT e.position, f.type FROM es_read_all($1) e LEFT JOIN es_read_stream($2) f USING (position) ORDER BY 1;
CREATE FUNCTION prepared(statement text, mode text) RETURNS text LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('plan_cache_mode', mode, true); RETURN alike(statement); END $$;
SELECT prepared(statement, 'force_custom_plan'), prepared(statement, 'force_generic_plan'), statement
FROM unnest(ARRAY[
    $$EXECUTE of_all(3, 5, '{Paid,Placed}', '{Order}', false, 22, NULL, 4)$$,
    $$EXECUTE of_all(12, NULL, NULL, NULL, true, NULL, 'Paid', 4)$$,
    $$EXECUTE of_all(NULL, NULL, NULL, NULL, false, NULL, NULL, 0)$$,
    $$EXECUTE of_all(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0)$$,
    $$EXECUTE of_all(5000000000, NULL, NULL, NULL, false, NULL, 'Paid', 0)$$,
    $$EXECUTE of_all(NULL, -1, NULL, NULL, false, NULL, NULL, 0)$$,
    $$EXECUTE of_all(NULL, 4, '{}', NULL, false, NULL, NULL, 9)$$,
    $$EXECUTE of_type('Paid', 9)$$,
    $$EXECUTE of_type('Placed', 9223372036854775807)$$,
    $$EXECUTE of_type('Opened', 100)$$,
    $$EXECUTE of_type('', 100)$$,
    $$EXECUTE of_type(NULL, 9)$$,
    $$EXECUTE of_type('Paid', NULL)$$,
    $$EXECUTE of_type('Paid', -9223372036854775808)$$,
    $$EXECUTE of_types('{Paid,Sent}', 6)$$,
    $$EXECUTE of_types('{{Paid},{NULL}}', 6)$$,
    $$EXECUTE of_types('{}', 6)$$,
    $$EXECUTE of_types(NULL, 6)$$,
    $$EXECUTE of_types('{Paid}', NULL)$$,
    $$EXECUTE of_types('{Paid}', -32768)$$,
    $$EXECUTE of_place(8, 'Order-1')$$,
    $$EXECUTE of_place(NULL, NULL)$$,
    $$EXECUTE of_stream('Order-1', 2, 2, false, '{Paid,Shipped}', 3)$$,
    $$EXECUTE of_stream('Order-1', NULL, NULL, true, NULL, 2)$$,
    $$EXECUTE of_stream('Order-1', NULL, NULL, true, NULL, NULL)$$,
    $$EXECUTE of_stream(NULL, NULL, NULL, true, NULL, 2)$$,
    $$EXECUTE of_category('Order', 3, 4, NULL, NULL, NULL, NULL)$$,
    $$EXECUTE of_category('Invoice', NULL, NULL, 1, 2, '1 ms', '+')$$,
    $$EXECUTE of_query('[{"tags": ["b"]}, {"types": ["Said"]}]', 2, NULL, NULL, false, 19)$$,
    $$EXECUTE of_query('[{}]', NULL, 3, NULL, true, NULL)$$,
    $$EXECUTE of_query('[{}]', NULL, 3, NULL, NULL, NULL)$$,
    $$EXECUTE of_correlation('c', 3, 4, 'correlation_id')$$,
    $$EXECUTE of_correlation('c', NULL, NULL, 'none')$$,
    $$EXECUTE of_join(3, 'Order-1')$$,
    $$EXECUTE of_join(NULL, NULL)$$]) statement;

-- ---- arguments ----

-- They are evaluated once a scan: and again where something that they depend on has changed.
CREATE TABLE evaluation (what text, value bigint);
CREATE FUNCTION told(what text, value bigint) RETURNS bigint VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN INSERT INTO evaluation VALUES (what, value); RETURN value; END $$;
CREATE FUNCTION evaluations(statement text) RETURNS text
    LANGUAGE sql
    SET enable_material = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_memoize = off
    AS $$ SELECT concat_ws(' / ', compare(statement, NULL, false), effects(statement, 'SELECT * FROM evaluation')) $$;
SELECT evaluations(statement), statement
FROM unnest(ARRAY[
    $$SELECT position FROM es_read_all(told('a', 3))$$,
    $$SELECT position FROM es_read_all(told('a', 3)) WHERE false$$,
    $$SELECT position FROM es_read_all(told('a', 3)) LIMIT 0$$,
    $$SELECT position FROM es_read_all(told('a', 3)) LIMIT 1$$,
    $$SELECT position FROM es_read_all(told('a', 3), told('b', 4)::int, up_to => told('c', 20))$$,
    $$SELECT t.id, e.position FROM thing t, es_read_all(told('a', 3)) e$$,
    $$SELECT t.id, e.position FROM thing t LEFT JOIN es_read_all(told('a', 3)) e ON e.version = t.id$$,
    $$SELECT t.id, e.position FROM thing t, LATERAL es_read_all(told('a', t.after)) e$$,
    $$SELECT t.id, (SELECT count(*) FROM es_read_all(told('a', t.after))) FROM thing t$$,
    $$SELECT t.id, (SELECT count(*) FROM es_read_all(told('a', 3)) e WHERE e.position > t.after) FROM thing t$$,
    $$SELECT t.id, (SELECT count(*) FROM es_read_all(told('a', 3)) WHERE type = 'Paid' AND position > t.after) FROM thing t$$,
    $$SELECT t.id, x.* FROM thing t, LATERAL (SELECT position FROM es_read_all(told('a', 3)) e WHERE e.position > t.after LIMIT 2) x$$,
    $$SELECT t.id, x.* FROM thing t, LATERAL (SELECT e.position, f.version FROM es_read_all(told('a', 3)) e, es_read_stream('Order-1', told('b', t.id)) f) x WHERE t.id < 4$$,
    $$SELECT position FROM es_read_all((SELECT told('a', 3)))$$,
    $$SELECT t.id, e.position FROM thing t, LATERAL es_read_all((SELECT told('a', t.after) WHERE t.id < 3)) e$$,
    $$SELECT t.id, e.position FROM thing t, LATERAL es_read_all((SELECT max(f.position) FROM es_read_stream(t.name) f)) e WHERE t.name IS NOT NULL$$,
    $$SELECT t.id FROM thing t WHERE EXISTS (SELECT FROM es_read_all(told('a', 3)) e WHERE e.version = t.id AND e.position > told('b', 0))$$,
    $$SELECT position FROM es_read_all() WHERE position > told('a', 9)$$,
    $$SELECT position FROM es_read_all() WHERE type = 'Paid' AND told('a', position) > 0$$,
    $$SELECT told('a', position) FROM es_read_all(max_count => 4)$$,
    $$SELECT told('a', position) FROM es_read_stream('Order-1') ORDER BY version DESC LIMIT 2$$,
    $$WITH x AS (SELECT position FROM es_read_all(told('a', 3))) SELECT t.id, x.position FROM thing t, x$$,
    $$WITH x AS (SELECT position FROM es_read_all(told('a', 3))) SELECT 1$$]) statement;

-- ---- own events ----

-- A transaction reads its own in their stream; by position nobody does before they are committed.
BEGIN;
SELECT version FROM es_append('Order-1', 'Packed');
SAVEPOINT a;
SELECT version FROM es_append('Order-1', 'Lost');
ROLLBACK TO a;
SELECT alike(statement), statement
FROM unnest(ARRAY[
    $$SELECT type FROM es_read_stream('Order-1')$$,
    $$SELECT type FROM es_read_stream('Order-1', backwards => true) LIMIT 1$$,
    $$SELECT version FROM es_read_stream('Order-1')$$,
    $$SELECT version FROM es_read_stream('Order-1') WHERE type IN ('Packed', 'Lost')$$,
    $$SELECT position FROM es_read_all(20)$$,
    $$SELECT type FROM es_read_category('Order') WHERE stream = 'Order-1'$$,
    $$SELECT position FROM es_read_all(25, wait => '10 s')$$]) statement;
ROLLBACK;

-- ---- cursors ----

-- What a cursor gives, step by step.
CREATE FUNCTION steps_outcome(scan boolean, declared text, steps text[]) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text[] := '{}';
    said text;
    step text;
    row record;
BEGIN
    PERFORM set_config('eventstore.enable_scan', scan::text, true);
    EXECUTE 'DECLARE c ' || declared;
    FOREACH step IN ARRAY steps LOOP
        said := step || ':';
        BEGIN
            IF step ~ '^FETCH' THEN
                FOR row IN EXECUTE step || ' FROM c' LOOP
                    said := said || ' ' || row::text;
                END LOOP;
            ELSE
                EXECUTE step || ' FROM c';
            END IF;
        EXCEPTION
            WHEN OTHERS THEN
                said := said || ' ' || SQLSTATE || ': ' || SQLERRM;
        END;
        answer := answer || said;
    END LOOP;
    RAISE USING ERRCODE = 'TTT00';
EXCEPTION
    WHEN SQLSTATE 'TTT00' THEN
        RETURN answer;
    WHEN OTHERS THEN
        RETURN ARRAY[SQLSTATE || ': ' || SQLERRM];
END $$;
CREATE FUNCTION steps(declared text, steps text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    as_node text[] := steps_outcome(true, declared, regexp_split_to_array(steps, ', '));
    as_function text[] := steps_outcome(false, declared, regexp_split_to_array(steps, ', '));
BEGIN
    IF as_node IS DISTINCT FROM as_function THEN
        RETURN format(E'DIFFERENT: %s\n  node:     %s\n  function: %s\n', declared, as_node, as_function);
    END IF;
    RETURN array_to_string(as_node, E'\n  ');
END $$;
SELECT format(E'%s\n  %s', declared, steps(declared, steps))
FROM (VALUES
    ($$CURSOR FOR SELECT version FROM es_read_stream('Order-1')$$, 'FETCH, FETCH 2, FETCH 0, FETCH ALL, FETCH'),
    ($$SCROLL CURSOR FOR SELECT version FROM es_read_stream('Order-1')$$, 'FETCH BACKWARD 1, FETCH 2, FETCH BACKWARD 1, FETCH BACKWARD 5, FETCH RELATIVE 0, FETCH ALL, FETCH BACKWARD ALL, FETCH LAST, FETCH FIRST, FETCH ABSOLUTE 3, FETCH ABSOLUTE -2, FETCH RELATIVE 2, FETCH RELATIVE -1, FETCH PRIOR'),
    ($$SCROLL CURSOR FOR SELECT position, type FROM es_read_all(8, 5)$$, 'MOVE FORWARD 4, FETCH 3, FETCH BACKWARD 2, MOVE ALL, FETCH PRIOR, MOVE ABSOLUTE 2, FETCH NEXT, MOVE BACKWARD ALL, FETCH FORWARD ALL'),
    ($$SCROLL CURSOR FOR SELECT position FROM es_read_all(max_count => NULL) WHERE type = 'Paid'$$, 'FETCH 2, FETCH BACKWARD 2, FETCH ALL, FETCH BACKWARD 2, FETCH LAST, FETCH ABSOLUTE 2, FETCH RELATIVE 0'),
    ($$SCROLL CURSOR FOR SELECT position, version FROM es_query('[{"types": ["Paid"]}, {"tags": ["b"]}]', backwards => true)$$, 'FETCH LAST, FETCH BACKWARD 3, FETCH 2, MOVE 100, FETCH PRIOR, FETCH FIRST'),
    ($$SCROLL CURSOR FOR SELECT position FROM es_read_category('Order', 3) WHERE position < 20 AND version > 1$$, 'FETCH 1, FETCH 100, FETCH BACKWARD 100, FETCH 100'),
    ($$SCROLL CURSOR FOR SELECT position FROM es_read_correlation('c') LIMIT 3$$, 'FETCH 2, FETCH BACKWARD 1, FETCH ALL, FETCH BACKWARD ALL, FETCH 1'),
    ($$SCROLL CURSOR FOR SELECT position FROM es_read_stream('Order-1', backwards => true) ORDER BY version$$, 'FETCH 2, FETCH BACKWARD 1, FETCH LAST, FETCH FIRST'),
    ($$SCROLL CURSOR FOR SELECT a.version, b.position FROM es_read_stream('Order-2') a, es_read_stream('Order-1') b$$, 'FETCH 5, FETCH BACKWARD 3, FETCH LAST, FETCH ABSOLUTE 2'),
    ($$SCROLL CURSOR FOR SELECT a.version, b.position FROM es_read_stream('Order-2') a, LATERAL es_read_all(a.position, 2) b$$, 'FETCH 5, FETCH BACKWARD 3, FETCH LAST, FETCH ABSOLUTE 2'),
    ($$SCROLL CURSOR FOR SELECT version FROM es_read_stream('Nobody')$$, 'FETCH, FETCH PRIOR, FETCH LAST'),
    ($$SCROLL CURSOR FOR SELECT version FROM es_read_stream('Order-1', max_count => 0)$$, 'FETCH, FETCH PRIOR'),
    ($$NO SCROLL CURSOR FOR SELECT version FROM es_read_stream('Order-1')$$, 'FETCH 2, FETCH BACKWARD 1, FETCH ALL'),
    ($$NO SCROLL CURSOR FOR SELECT version FROM es_read_stream('Order-1')$$, 'FETCH 2, FETCH ABSOLUTE 3, FETCH ABSOLUTE 4, FETCH RELATIVE 0, FETCH FIRST'),
    ($$CURSOR FOR SELECT version FROM es_read_stream('Order-1')$$, 'FETCH 3, FETCH BACKWARD 1, FETCH FIRST'),
    ($$CURSOR FOR SELECT type FROM es_read_all(max_count => 4) WHERE data <> '{}'$$, 'FETCH 3, FETCH BACKWARD 1, FETCH FIRST'),
    ($$SCROLL CURSOR FOR SELECT 6 / (version - 3) FROM es_read_stream('Order-1')$$, 'FETCH 2, FETCH 1, FETCH 1'),
    ($$CURSOR FOR SELECT position FROM es_read_all(5000000000)$$, 'FETCH 1, FETCH 1'),
    ($$SCROLL CURSOR FOR SELECT version, duplicate FROM es_append('New-1', 'T')$$, 'FETCH PRIOR, FETCH, FETCH, FETCH PRIOR, FETCH PRIOR, FETCH ALL, FETCH LAST, FETCH FIRST'),
    ($$SCROLL CURSOR FOR SELECT t.id, a.version FROM thing t, LATERAL es_append('New-' || t.id % 2, 'T') a$$, 'FETCH 3, FETCH BACKWARD 2, FETCH 2, FETCH LAST, FETCH ABSOLUTE 2'),
    ($$SCROLL CURSOR FOR SELECT stream, version FROM es_append_batch('{New-1,New-2,New-1}', '{A,B,C}', '{"{}","{}","{}"}')$$, 'FETCH, FETCH BACKWARD 1, FETCH ALL, FETCH PRIOR, FETCH FIRST'))
    v (declared, steps);
-- A statement's snapshot is the cursor's: events that come later do not.
CREATE TABLE held (step text, scan text, row text);
CREATE PROCEDURE hold(scan boolean, call text)
    LANGUAGE plpgsql
    AS $$
DECLARE
    step text;
    found record;
BEGIN
    PERFORM set_config('eventstore.enable_scan', scan::text, false);
    EXECUTE 'DECLARE held SCROLL CURSOR WITH HOLD FOR SELECT position, type FROM ' || call;
    FOREACH step IN ARRAY '{FETCH 2,COMMIT,FETCH 3,FETCH BACKWARD 4,FETCH LAST,FETCH ABSOLUTE 2}'::text[] LOOP
        IF step = 'COMMIT' THEN
            COMMIT;
        ELSE
            FOR found IN EXECUTE step || ' FROM held' LOOP
                INSERT INTO held VALUES (step, scan::text, found::text);
            END LOOP;
        END IF;
    END LOOP;
    EXECUTE 'CLOSE held';
END $$;
SELECT format('CALL hold(%L, %L)', scan, call) FROM call, unnest('{t,f}'::boolean[]) scan ORDER BY n, scan \gexec
RESET eventstore.enable_scan;
SELECT scan, count(*), md5(string_agg(step || row, ' ' ORDER BY ctid)) = lag(md5(string_agg(step || row, ' ' ORDER BY ctid))) OVER (ORDER BY scan) FROM held GROUP BY scan ORDER BY scan;
BEGIN;
DECLARE before CURSOR FOR SELECT version FROM es_read_stream('Order-1');
DECLARE begun CURSOR FOR SELECT version FROM es_read_stream('Order-1');
FETCH 1 FROM begun;
SELECT version FROM es_append('Order-1', 'Late');
FETCH ALL FROM before;
FETCH ALL FROM begun;
ROLLBACK;

-- ---- plans ----

-- Nodes, and where none may stand for a row could be looked at again.
SELECT statement, E'\n  ' || line
FROM unnest(ARRAY[
    $$SELECT * FROM es_read_stream('Order-1')$$,
    $$SELECT count(*) FROM es_read_all()$$,
    $$SELECT e FROM es_read_category('Order') e$$,
    $$SELECT type FROM es_query('[{}]') e (a, b, c, type)$$,
    $$SELECT * FROM ROWS FROM (es_read_correlation('c')) WHERE type = 'Paid'$$,
    $$SELECT * FROM es_append('New-1', 'T') a$$,
    $$SELECT * FROM es_append_events('New-1', '[]')$$,
    $$SELECT version FROM es_append_batch('{}', '{}', '{}')$$,
    $$SELECT position FROM es_fetch('none', 'me') e$$,
    $$SELECT t.id, e.position FROM thing t, LATERAL es_read_stream(t.name) e$$,
    $$SELECT (SELECT count(*) FROM es_read_all(t.after)) FROM thing t$$,
    $$WITH x AS MATERIALIZED (SELECT * FROM es_read_all()) SELECT count(*) FROM x a, x b$$,
    $$INSERT INTO setting SELECT stream, type FROM es_read_all()$$,
    $$CREATE TABLE made AS SELECT * FROM es_read_all()$$,
    $$DECLARE made CURSOR FOR SELECT * FROM es_read_all()$$,
    $$SELECT e.position FROM es_read_all() e FOR UPDATE$$,
    $$UPDATE thing SET after = position FROM es_read_all() e WHERE e.version = id$$,
    $$UPDATE thing SET after = (SELECT max(position) FROM es_read_all())$$,
    $$DELETE FROM thing USING es_append('New-1', 'T') WHERE version = id$$,
    $$MERGE INTO thing t USING es_read_stream('Order-1') e ON t.id = e.version WHEN MATCHED THEN DELETE$$,
    $$SELECT t.id FROM thing t, es_read_all() e WHERE e.version = t.id FOR UPDATE OF t$$,
    $$SELECT t.id FROM thing t, (SELECT * FROM es_read_all() OFFSET 0) e WHERE e.version = t.id FOR SHARE OF t$$,
    $$SELECT * FROM es_read_all() WITH ORDINALITY$$,
    $$SELECT * FROM ROWS FROM (es_read_all(), es_read_stream('Order-1'))$$,
    $$SELECT es_read_stream('Order-1')$$,
    $$SELECT * FROM es_read_event(NULL)$$]) WITH ORDINALITY s (statement, n),
    scans(statement) WITH ORDINALITY l (line, m)
WHERE line !~ '^Seq Scan'
ORDER BY n, m;
SET eventstore.enable_scan = off;
SELECT scans('SELECT * FROM es_read_all(), es_append(''New-1'', ''T'')');
RESET eventstore.enable_scan;
-- Not for a function of that name that is another one, nor with something around it.
CREATE SCHEMA other;
CREATE FUNCTION other.es_read_all() RETURNS SETOF es_event LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT * FROM public.es_read_all() WHERE type = 'Sent'; END $$;
CREATE FUNCTION other.es_append(stream text, type text) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
SELECT scans('SELECT * FROM other.es_read_all()');
SELECT count(*) FROM other.es_read_all();
PREPARE of_altered AS SELECT count(*) FROM es_read_all();
PREPARE of_altered_append AS SELECT version FROM es_append('New-1', 'T');
SELECT scans('EXECUTE of_altered'), scans('EXECUTE of_altered_append');
ALTER FUNCTION es_read_all(bigint, int, text[], text[], boolean, interval, bigint) SET search_path = public;
ALTER FUNCTION es_append SECURITY DEFINER;
SELECT scans('EXECUTE of_altered'), scans('EXECUTE of_altered_append'), scans('SELECT * FROM es_read_all()');
EXECUTE of_altered;
ALTER FUNCTION es_read_all(bigint, int, text[], text[], boolean, interval, bigint) RESET search_path;
ALTER FUNCTION es_append SECURITY INVOKER;
SELECT scans('EXECUTE of_altered'), scans('EXECUTE of_altered_append'), scans('SELECT * FROM es_read_all()');
EXECUTE of_altered;
DEALLOCATE of_altered_append;

-- A call counts once, as ever.
SET track_functions = 'all';
CREATE FUNCTION calls(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    function regprocedure := 'es_read_all(bigint, int, text[], text[], boolean, interval, bigint)';
    counted bigint := coalesce(pg_stat_get_xact_function_calls(function), 0);
BEGIN
    EXECUTE statement;
    RETURN coalesce(pg_stat_get_xact_function_calls(function), 0) - counted;
END $$;
SELECT calls('SELECT * FROM es_read_all()'), calls('SELECT * FROM es_read_all() LIMIT 1'), calls('SELECT FROM thing t, LATERAL es_read_all(t.after) LIMIT 100'), calls('EXPLAIN SELECT * FROM es_read_all()');
SET eventstore.enable_scan = off;
DISCARD PLANS;
SELECT calls('SELECT * FROM es_read_all()'), calls('SELECT * FROM es_read_all() LIMIT 1'), calls('SELECT FROM thing t, LATERAL es_read_all(t.after) LIMIT 100'), calls('EXPLAIN SELECT * FROM es_read_all()');
RESET eventstore.enable_scan;
RESET track_functions;

-- ---- appends and fetches ----

-- They run as often as any function: the number of events that a statement appends.
CREATE FUNCTION appends(statement text) RETURNS text
    LANGUAGE sql
    SET enable_material = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_memoize = off
    AS $$ SELECT effects(statement, 'SELECT stream, version, type, data FROM eventstore.events WHERE stream LIKE ''New%'' ORDER BY position') $$;
SELECT appends(statement), statement
FROM unnest(ARRAY[
    $$SELECT * FROM es_append('New-1', 'T')$$,
    $$SELECT FROM es_append('New-1', 'T')$$,
    $$SELECT count(*) FROM es_append('New-1', 'T')$$,
    $$SELECT version, position FROM es_append('New-1', 'T', '{"a": 1}')$$,
    $$SELECT es_append('New-1', 'T')$$,
    $$SELECT (es_append('New-1', 'T')).*$$,
    $$SELECT * FROM es_append_events('New-1', '[{"type": "A"}, {"type": "B"}]')$$,
    $$SELECT * FROM es_append_events('New-1', '[]')$$,
    $$SELECT * FROM es_append_batch('{New-1,New-2,New-1}', '{A,B,C}', '{"{}","{}","{}"}')$$,
    $$SELECT * FROM es_append_batch('{New-1,New-2,New-1}', '{A,B,C}', '{"{}","{}","{}"}') LIMIT 1$$,
    $$SELECT * FROM es_append_batch('{New-1,New-2,New-1}', '{A,B,C}', '{"{}","{}","{}"}') LIMIT 0$$,
    $$SELECT stream FROM es_append_batch('{New-1,New-2,New-1}', '{A,B,C}', '{"{}","{}","{}"}') OFFSET 5$$,
    $$SELECT count(*) FROM es_append_batch('{}', '{}', '{}')$$,
    $$SELECT * FROM es_append('New-1', 'T') LIMIT 0$$,
    $$SELECT * FROM es_append('New-1', 'T') LIMIT 1$$,
    $$SELECT * FROM es_append('New-1', 'T') OFFSET 1$$,
    $$SELECT * FROM es_append('New-1', 'T') WHERE false$$,
    $$SELECT * FROM es_append('New-1', 'T') WHERE version = 7$$,
    $$SELECT * FROM es_append('New-1', 'T') WHERE NOT duplicate$$,
    $$SELECT * FROM es_append('New-1', 'T') ORDER BY version$$,
    $$SELECT * FROM es_append('New-1', 'T') a WHERE a IS NULL$$,
    $$SELECT * FROM es_append('New-1', 'T') WITH ORDINALITY$$,
    $$SELECT * FROM ROWS FROM (es_append('New-1', 'T'), es_append('New-1', 'U'))$$,
    $$EXPLAIN SELECT * FROM es_append('New-1', 'T')$$,
    $$EXPLAIN (VERBOSE, FORMAT json) SELECT * FROM es_append('New-1', 'T')$$,
    $$EXPLAIN ANALYZE SELECT * FROM es_append('New-1', 'T')$$,
    $$EXPLAIN ANALYZE SELECT * FROM thing t, LATERAL es_append('New-' || t.id, 'T')$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-' || t.id, 'T')$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-' || t.id % 2, 'T')$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-1', t.name)$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-1', t.name) WHERE t.name IS NOT NULL$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-' || t.id, 'T') LIMIT 3$$,
    $$SELECT * FROM thing t LEFT JOIN LATERAL es_append('New-' || t.id, 'T') ON t.id > 5$$,
    $$SELECT * FROM thing t LEFT JOIN LATERAL es_append('New-' || t.id, 'T') a ON a.version = 2$$,
    $$SELECT * FROM (SELECT * FROM thing t ORDER BY id OFFSET 0) t, LATERAL es_append('New-' || t.after, 'T', jsonb_build_object('id', t.id)) WHERE t.after IS NOT NULL$$,
    $$SELECT * FROM thing t, es_append('New-1', 'T') a$$,
    $$SELECT * FROM thing t LEFT JOIN es_append('New-1', 'T') a ON a.version = t.id$$,
    $$SELECT * FROM thing t JOIN es_append_batch('{New-1,New-2}', '{A,B}', '{"{}","{}"}') a ON a.version <= t.id$$,
    $$SELECT max(a.version) FROM es_append('New-1', 'T') a LEFT JOIN thing t ON t.id = a.position$$,
    $$SELECT count(a.stream) FROM es_append_batch('{New-1,New-2}', '{A,B}', '{"{}","{}"}') a LEFT JOIN thing t ON t.id = a.version$$,
    $$SELECT * FROM thing t, LATERAL (SELECT a.version FROM es_append('New-1', 'T') a WHERE a.version < t.id) x$$,
    $$SELECT * FROM thing t, LATERAL (SELECT a.version, b.version FROM es_append('New-1', 'T') a, LATERAL es_append('New-2', t.id::text) b) x$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-' || t.id, 'T') WHERE t.id > 100$$,
    $$SELECT * FROM (SELECT * FROM thing WHERE id > 100) t, es_append('New-1', 'T')$$,
    $$SELECT t.id, (SELECT version FROM es_append('New-1', 'T')) FROM thing t$$,
    $$SELECT t.id, (SELECT version FROM es_append('New-' || t.id, 'T')) FROM thing t$$,
    $$SELECT t.id, (SELECT a.version + t.id FROM es_append('New-1', 'T') a) FROM thing t$$,
    $$SELECT t.id FROM thing t WHERE t.id IN (SELECT version FROM es_append('New-1', 'T'))$$,
    $$SELECT t.id FROM thing t WHERE EXISTS (SELECT FROM es_append('New-' || t.id, 'T'))$$,
    $$SELECT CASE WHEN t.id > 5 THEN (SELECT version FROM es_append('New-' || t.id, 'T')) END FROM thing t$$,
    $$WITH x AS (SELECT * FROM es_append('New-1', 'T')) SELECT 1$$,
    $$WITH x AS (SELECT * FROM es_append('New-1', 'T')) SELECT * FROM x a, x b$$,
    $$WITH x AS (SELECT * FROM es_append('New-1', 'T')) SELECT * FROM x LIMIT 0$$,
    $$WITH x AS NOT MATERIALIZED (SELECT * FROM es_append('New-1', 'T')) SELECT * FROM x a, x b$$,
    $$SELECT * FROM es_append('New-1', 'T') UNION ALL SELECT * FROM es_append('New-1', 'T')$$,
    $$SELECT * FROM es_append('New-1', 'T') UNION ALL SELECT * FROM es_append('New-1', 'T') LIMIT 1$$,
    $$SELECT e.version, a.version FROM es_read_stream('Order-1') e, LATERAL es_append('New-' || e.version, e.type, e.data) a$$,
    $$SELECT a.version, e.type FROM es_append('New-1', 'T') a, LATERAL es_read_stream('New-1', a.version) e$$,
    $$SELECT a.version, b.version FROM es_append('New-1', 'T') a, LATERAL es_append('New-1', 'U', expected_version => a.version) b$$,
    $$SELECT a.version, es_stream_version('New-1') FROM es_append('New-1', 'T') a$$,
    $$INSERT INTO thing SELECT 100 + version, 'x', position FROM es_append('New-1', 'T')$$,
    $$CREATE TABLE made AS SELECT * FROM es_append('New-1', 'T')$$,
    $$CREATE TABLE made AS SELECT * FROM es_append('New-1', 'T') WITH NO DATA$$,
    $$UPDATE thing SET after = 1 FROM es_append('New-1', 'T') a WHERE a.version = id$$,
    $$UPDATE thing SET after = (SELECT position FROM es_append('New-1', 'T'))$$,
    $$DELETE FROM thing USING LATERAL es_append('New-1', 'T') a WHERE a.version = id$$,
    $$MERGE INTO thing t USING es_append('New-1', 'T') a ON a.version = t.id WHEN MATCHED THEN DELETE$$,
    $$SELECT t.id FROM thing t, es_append('New-1', 'T') a FOR UPDATE OF t$$,
    -- errors
    $$SELECT * FROM es_append('New-1', 'T', expected_version => 3)$$,
    $$SELECT * FROM es_append('New-1', NULL)$$,
    $$SELECT * FROM es_append('Order-1', 'T', expected_version => 0) LIMIT 0$$,
    $$SELECT * FROM es_append('Dead-1', 'T')$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-1', 'T', expected_version => t.id - 1) a$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-1', 'T', expected_version => 0) a$$,
    $$SELECT * FROM thing t, LATERAL es_append('New-1', 'T', expected_version => 0) a LIMIT 1$$,
    $$SELECT * FROM es_append_batch('{New-1,New-1}', '{A,B}', '{"{}","{}"}', expected_versions => '{0,0}')$$,
    $$SELECT * FROM es_append('New-1', 'T', condition => '{"query": [{"types": ["Paid"]}]}')$$,
    $$SELECT 1 / (version - 1) FROM es_append('New-1', 'T')$$,
    $s$DO $do$ BEGIN PERFORM es_append('New-1', 'A'); BEGIN PERFORM 1 / (a.version - 2) FROM es_append('New-1', 'B') a; EXCEPTION WHEN division_by_zero THEN PERFORM FROM es_append('New-1', 'C'); END; END $do$$s$,
    -- the same ids again
    $$SELECT * FROM thing t, LATERAL es_append('New-1', 'T', event_id => '00000000-0000-7000-8000-000000000001') a$$,
    -- in functions, with cursors and plans that are kept
    $s$DO $do$ DECLARE a record; BEGIN FOR i IN 1 .. 7 LOOP SELECT * INTO a FROM es_append('New-' || i % 2, 'T'); END LOOP; END $do$$s$,
    $s$DO $do$ DECLARE v bigint; BEGIN FOR i IN 1 .. 7 LOOP v := (SELECT version FROM es_append('New-1', 'T', expected_version => i - 1)); END LOOP; END $do$$s$,
    $s$DO $do$ DECLARE a record; BEGIN FOR a IN SELECT * FROM es_append_batch('{New-1,New-2}', '{A,B}', '{"{}","{}"}') LOOP EXIT; END LOOP; END $do$$s$,
    $s$DO $do$ DECLARE c SCROLL CURSOR FOR SELECT * FROM es_append('New-1', 'T'); a record; BEGIN OPEN c; CLOSE c; END $do$$s$,
    $s$DO $do$ DECLARE c SCROLL CURSOR FOR SELECT * FROM es_append('New-1', 'T'); a record; BEGIN OPEN c; FOR i IN 1 .. 3 LOOP MOVE FORWARD ALL FROM c; MOVE BACKWARD ALL FROM c; FETCH FIRST FROM c INTO a; FETCH LAST FROM c INTO a; END LOOP; CLOSE c; END $do$$s$,
    $s$DO $do$ DECLARE c SCROLL CURSOR FOR SELECT * FROM thing t, LATERAL es_append('New-' || t.id % 2, 'T'); a record; BEGIN OPEN c; FETCH ABSOLUTE 3 FROM c INTO a; MOVE BACKWARD 2 FROM c; FETCH c INTO a; CLOSE c; END $do$$s$,
    $s$DO $do$ DECLARE c SCROLL CURSOR FOR SELECT * FROM es_append_batch('{New-1,New-2}', '{A,B}', '{"{}","{}"}'); a record; BEGIN OPEN c; FETCH c INTO a; FETCH PRIOR FROM c INTO a; FETCH LAST FROM c INTO a; FETCH FIRST FROM c INTO a; END $do$$s$]) statement;
-- Each outer row is a call, also where many have the same values and the arguments are dear, so that memoizing would pay.
CREATE TABLE many AS SELECT n, 'K' || n % 3 AS kind FROM generate_series(1, 600) n;
ANALYZE many;
SELECT effects(statement, 'SELECT stream, version, type, data FROM eventstore.events WHERE stream LIKE ''New%'' ORDER BY position'), statement
FROM unnest(ARRAY[
    $$SELECT * FROM many m, LATERAL es_append('New-' || lower(m.kind), m.kind) a$$,
    $$SELECT count(*) FROM many m, LATERAL es_append('New-' || lower(m.kind), 'T', jsonb_build_object('kind', upper(m.kind), 'l', length(m.kind), 'm', md5(m.kind)), tags => ARRAY[m.kind || 'x']) a$$,
    $$SELECT count(a.version) FROM many m LEFT JOIN LATERAL es_append_events('New-1', jsonb_build_array(jsonb_build_object('type', upper(m.kind), 'data', jsonb_build_object('a', md5(m.kind), 'b', reverse(m.kind))))) a ON true$$]) statement;
-- Of rows the names are those of the query.
SELECT alike(statement), statement
FROM unnest(ARRAY[
    $$SELECT version, duplicate, position > 25 FROM es_append('New-1', 'T')$$,
    $$SELECT v, d FROM es_append('New-1', 'T') AS a (v, p, d)$$,
    $$SELECT to_jsonb(a) - 'p' FROM es_append('New-1', 'T') AS a (v, p, d)$$,
    $$SELECT array(SELECT json_object_keys(to_json(a))) FROM es_append('New-1', 'T') AS a (v, p, d)$$,
    $$SELECT array(SELECT json_object_keys(row_to_json(a))) FROM es_append('New-1', 'T') a$$,
    $$SELECT array(SELECT jsonb_object_keys(to_jsonb(a))) FROM es_append_batch('{New-1,New-2}', '{A,B}', '{"{}","{}"}') AS a (s)$$,
    $$SELECT pg_typeof(a), a IS NULL, a IS NOT NULL, a.duplicate FROM es_append('New-1', 'T') a$$,
    $$SELECT to_jsonb(a) - 'position' FROM thing t LEFT JOIN LATERAL es_append('New-1', t.name) a ON t.id < 3$$,
    $$SELECT to_jsonb(x) - 'p' FROM (SELECT * FROM es_append('New-1', 'T') AS a (v, p, d)) x$$,
    $$SELECT (x.a).version, (x.a).duplicate FROM (SELECT a FROM es_append('New-1', 'T') a) x$$,
    $$SELECT to_jsonb(x.a) - 'p', to_jsonb(x.b) - 'p' FROM (SELECT a, b FROM es_append('New-1', 'T') AS a (v, p, d), es_append('New-1', 'T') AS b (w, p, e)) x$$,
    $$SELECT stream, version FROM es_append_batch('{New-1,New-2}', '{A,B}', '{"{}","{}"}') ORDER BY stream DESC$$,
    $$SELECT to_jsonb(a) - 'position', version FROM es_append_events('New-1', '[]') a$$,
    $$SELECT t.id, a.version FROM thing t, LATERAL es_append('New-' || t.id % 2, 'T') a ORDER BY 1$$]) statement;
SELECT es_create_subscription('s', partitions => 2), es_create_subscription('paid', types => '{Paid}');
CREATE FUNCTION leases(statement text) RETURNS text
    LANGUAGE sql
    SET enable_material = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_memoize = off
    AS $$ SELECT effects(statement, 'SELECT subscription_id, partition, delivered, consumer, unnest(pending) FROM eventstore.subscription_partition ORDER BY 1, 2, 5') $$;
SELECT leases(statement), statement
FROM unnest(ARRAY[
    $$SELECT * FROM es_fetch('s', 'me')$$,
    $$SELECT FROM es_fetch('s', 'me')$$,
    $$SELECT e FROM es_fetch('s', 'me', 3) e$$,
    $$SELECT position FROM es_fetch('s', 'me', 3) WHERE type = 'Paid'$$,
    $$SELECT position FROM es_fetch('s', 'me', 3) WHERE false$$,
    $$SELECT position FROM es_fetch('s', 'me', 3) LIMIT 0$$,
    $$SELECT position FROM es_fetch('s', 'me', 3) LIMIT 1$$,
    $$SELECT position FROM es_fetch('s', 'me', 0)$$,
    $$SELECT max(position) FROM es_fetch('paid', 'me')$$,
    $$EXPLAIN SELECT * FROM es_fetch('s', 'me')$$,
    $$EXPLAIN ANALYZE SELECT * FROM es_fetch('s', 'me')$$,
    $$SELECT * FROM thing t, es_fetch('s', 'me', 2) e$$,
    $$SELECT * FROM thing t LEFT JOIN es_fetch('s', 'me', 2) e ON e.version = t.id$$,
    $$SELECT * FROM thing t, LATERAL es_fetch('s', 'me ' || t.id, 2) e$$,
    $$SELECT * FROM generate_series(1, 3) n, LATERAL es_fetch('s', 'me', n) e$$,
    $$SELECT * FROM generate_series(1, 3) n, LATERAL es_fetch('paid', 'me ' || n, 1) e LIMIT 1$$,
    $$WITH x AS (SELECT * FROM es_fetch('s', 'me', 2)) SELECT 1$$,
    $$WITH x AS (SELECT * FROM es_fetch('s', 'me', 2)) SELECT * FROM x a, x b$$,
    $$SELECT a.version FROM es_fetch('s', 'me', 4) e, LATERAL es_append('New-1', e.type) a$$,
    $$SELECT es_ack('s', 'me', array_agg(position)) FROM es_fetch('s', 'me', 4)$$,
    $s$DO $do$ DECLARE c SCROLL CURSOR FOR SELECT * FROM es_fetch('s', 'me', 5); a record; BEGIN OPEN c; FETCH c INTO a; FETCH PRIOR FROM c INTO a; FETCH LAST FROM c INTO a; FETCH FIRST FROM c INTO a; END $do$$s$,
    $$SELECT 1 / (position - 3) FROM es_fetch('s', 'me', 5)$$,
    $$SELECT * FROM es_fetch('s', NULL)$$,
    $$SELECT * FROM es_fetch('none', 'me')$$,
    $$SELECT * FROM es_fetch('s', 'me', -1)$$]) statement;
SELECT alike(statement), statement
FROM unnest(ARRAY[
    $$SELECT * FROM es_fetch('s', 'me')$$,
    $$SELECT position, type, data FROM es_fetch('s', 'me', 3) ORDER BY position DESC$$,
    $$SELECT e, e.type, to_jsonb(e) FROM es_fetch('paid', 'me') AS e (a, b, c)$$,
    $$SELECT position FROM es_fetch('paid', 'me') WHERE position > 5 LIMIT 1$$,
    $$SELECT t.id, e.position FROM thing t LEFT JOIN es_fetch('paid', 'me') e ON e.version = t.id ORDER BY 1, 2$$,
    $$SELECT * FROM generate_series(1, 3) n, LATERAL es_fetch('paid', 'me', n) e ORDER BY n, position$$]) statement;

-- Savepoints: what is rolled back is gone, and is appended anew.
BEGIN;
SELECT version FROM es_append('New-1', 'A');
SAVEPOINT a;
SELECT version FROM es_append('New-1', 'B', expected_version => 1);
SELECT version FROM es_append('New-1', 'B', expected_version => 1);
ROLLBACK TO a;
SELECT version FROM es_append('New-1', 'C', expected_version => 1);
SAVEPOINT a;
DECLARE c CURSOR FOR SELECT t.id, a.version FROM thing t, LATERAL es_append('New-1', 'D') a;
FETCH 2 FROM c;
ROLLBACK TO a;
FETCH 1 FROM c;
ROLLBACK TO a;
DECLARE c CURSOR FOR SELECT t.id, a.version FROM thing t, LATERAL es_append('New-1', 'E') a;
SAVEPOINT b;
FETCH 2 FROM c;
RELEASE b;
FETCH 1 FROM c;
SELECT version, type FROM es_read_stream('New-1');
ROLLBACK;

-- ---- rights ----

-- EXECUTE is checked when a statement runs, though its plan was made when it was granted; under EXPLAIN too.
CREATE ROLE regress_scan;
GRANT USAGE ON SCHEMA eventstore TO regress_scan;
GRANT SELECT ON ALL TABLES IN SCHEMA eventstore TO regress_scan;
GRANT SELECT ON thing TO regress_scan;
GRANT EXECUTE ON FUNCTION es_read_all, es_read_stream, es_append, es_fetch TO regress_scan;
CREATE FUNCTION refusals(scan boolean, keep_plans boolean DEFAULT false) RETURNS SETOF text
    LANGUAGE plpgsql
    AS $$
DECLARE
    statement text;
BEGIN
    PERFORM set_config('eventstore.enable_scan', scan::text, true);
    IF NOT keep_plans THEN
        DISCARD PLANS;
    END IF;
    FOREACH statement IN ARRAY ARRAY['EXECUTE read', 'EXECUTE stream(''Order-1'')', 'EXECUTE append', 'EXECUTE fetched', 'SELECT FROM seen', 'SELECT FROM definer()',
        'SELECT FROM es_read_all() LIMIT 0', 'SELECT FROM es_append(''New-1'', ''T'') WHERE false', 'EXPLAIN SELECT FROM es_read_all()', 'EXPLAIN EXECUTE append',
        'SELECT t.id FROM thing t LEFT JOIN es_read_all() e ON e.version = t.id WHERE t.id = 77', 'SELECT (SELECT count(*) FROM es_read_all()) FROM thing WHERE id = 77'] LOOP
        BEGIN
            EXECUTE statement;
            RAISE USING ERRCODE = 'TTT00';
        EXCEPTION
            WHEN SQLSTATE 'TTT00' THEN
                RETURN NEXT statement || ': ok';
            WHEN OTHERS THEN
                RETURN NEXT format('%s: %s: %s', statement, SQLSTATE, SQLERRM);
        END;
    END LOOP;
END $$;
CREATE VIEW seen AS SELECT position FROM es_read_all();
CREATE FUNCTION definer() RETURNS SETOF bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT position FROM es_read_all()';
GRANT SELECT ON seen TO regress_scan;
SET ROLE regress_scan;
SET plan_cache_mode = 'force_generic_plan';
PREPARE read AS SELECT position FROM es_read_all();
PREPARE stream(text) AS SELECT count(*) FROM es_read_stream($1);
PREPARE append AS SELECT version FROM es_append('New-1', 'T');
PREPARE fetched AS SELECT position FROM es_fetch('s', 'me');
SELECT count(*) FROM refusals(false);
SELECT refusals(true);
SELECT scans('EXECUTE read'), scans('EXECUTE stream(''Order-1'')'), scans('EXECUTE append'), scans('EXECUTE fetched');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION es_read_all, es_read_stream, es_append, es_fetch FROM regress_scan;
SET ROLE regress_scan;
SELECT refusals(true, keep_plans => true);
SELECT refusals(false) EXCEPT ALL SELECT refusals(true);
RESET ROLE;
GRANT EXECUTE ON FUNCTION es_read_all, es_read_stream, es_append, es_fetch TO regress_scan;
-- Row-level security.
ALTER TABLE eventstore.event_log ENABLE ROW LEVEL SECURITY;
SET ROLE regress_scan;
SELECT refusals(true);
SELECT refusals(false) EXCEPT ALL SELECT refusals(true);
RESET ROLE;
ALTER TABLE eventstore.event_log DISABLE ROW LEVEL SECURITY;
RESET plan_cache_mode;
DROP OWNED BY regress_scan;
DROP ROLE regress_scan;

-- ---- cursors that go back, after what others would do ----

-- Behind its last event, too, a cursor keeps the log in use: it can go back.
SET eventstore.allow_drop = on;
SET client_min_messages = warning;
CREATE FUNCTION fate(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
BEGIN;
DECLARE last CURSOR FOR SELECT position FROM es_read_all(0, NULL);
MOVE FORWARD ALL FROM last;
SELECT statement, fate(statement) FROM unnest(ARRAY['SELECT es_reset()', 'DROP EXTENSION eventstore CASCADE', 'TRUNCATE eventstore.event_log CASCADE']) statement;
MOVE BACKWARD ALL FROM last;
SELECT fate('DROP EXTENSION eventstore CASCADE');
CLOSE last;
COMMIT;
RESET eventstore.allow_drop;
RESET client_min_messages;
-- What is read again is shown, and found, by the upcasters of the beginning.
CREATE FUNCTION made(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '"made"'::jsonb $$;
CREATE FUNCTION remade(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '"remade"'::jsonb $$;
SELECT count(*) FROM generate_series(1, 3), es_append('Up-1', 'Before');
SELECT es_register_upcaster('Before', 1, 'made', 'After');
BEGIN;
DECLARE by_argument CURSOR FOR SELECT version, type, data FROM es_read_all(0, NULL, types => '{After}');
DECLARE by_condition CURSOR FOR SELECT version, type, data FROM es_read_all(0, NULL) WHERE type = 'After';
DECLARE by_query CURSOR FOR SELECT version, type, data FROM es_query('[{"types": ["After"]}]');
DECLARE of_stream CURSOR FOR SELECT version, type, data FROM es_read_stream('Up-1', types => '{After}');
FETCH ALL FROM by_argument;
FETCH ALL FROM by_condition;
FETCH ALL FROM by_query;
FETCH ALL FROM of_stream;
SELECT es_register_upcaster('Before', 1, 'remade', 'Other');
FETCH BACKWARD ALL FROM by_argument;
FETCH BACKWARD ALL FROM by_condition;
FETCH BACKWARD ALL FROM by_query;
FETCH BACKWARD ALL FROM of_stream;
COMMIT;

-- ---- once for each row of the outer side ----

-- However dear the planner holds it to be: where the arguments are the same, too.
CREATE FUNCTION appended(scan text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    version_before bigint := (SELECT coalesce(sum(es_stream_version('Many-K' || n)), 0) FROM generate_series(0, 2) n);
BEGIN
    PERFORM set_config('eventstore.enable_scan', scan, true);
    EXECUTE statement;
    RETURN (SELECT sum(es_stream_version('Many-K' || n)) FROM generate_series(0, 2) n) - version_before;
END $$;
SELECT statement, appended('on', statement) AS "on", appended('off', statement) AS "off"
FROM unnest(ARRAY[
    $$SELECT count(*) FROM many, LATERAL es_append('Many-' || kind, 'T') a$$,
    $$SELECT count(*) FROM many, LATERAL es_append_events('Many-' || kind, '[{"type": "T"}]') a$$,
    $$SELECT count(*) FROM many, LATERAL es_append_batch(ARRAY['Many-' || kind], ARRAY['T'], ARRAY['{}'::jsonb]) a$$,
    $$SELECT count(*) FROM many, LATERAL (SELECT a.position FROM es_append('Many-' || kind, 'T') a LIMIT 1) a$$,
    $$SELECT count(*) FROM many, LATERAL (SELECT max(a.position) AS position FROM es_append('Many-' || kind, 'T') a) a$$,
    $$SELECT count(*) FROM many, LATERAL (SELECT (es_append('Many-' || kind, 'T')).position OFFSET 0) a$$,
    $$SELECT count(*) FROM many, LATERAL (SELECT position FROM es_append('Many-' || kind, 'T') UNION ALL SELECT position FROM es_append('Many-' || kind, 'T')) a$$,
    $$SELECT count(*) FROM many, LATERAL (WITH w AS MATERIALIZED (SELECT position FROM es_append('Many-' || kind, 'T')) SELECT max(position) AS position FROM w) a$$]) statement;
RESET eventstore.enable_scan;
SELECT scans('SELECT count(*) FROM many, LATERAL es_append(''Many-'' || kind, ''T'') a'), scans('SELECT count(*) FROM many, LATERAL es_read_stream(''Many-'' || kind) a');

-- ---- cancelled in the midst ----

\set SHOW_CONTEXT never
SET statement_timeout = '50ms';
SELECT count(pg_sleep(0.02)) FROM es_read_all(0, NULL);
SELECT count(a.data || b.data) FROM es_read_all(0, NULL) a, es_read_all(0, NULL) b;
RESET statement_timeout;
\set SHOW_CONTEXT errors
BEGIN;
DECLARE halfway CURSOR FOR SELECT position FROM es_read_all(0, NULL);
FETCH 2 FROM halfway;
SAVEPOINT s;
SELECT 1 / (position - 3) FROM es_read_all(0, NULL);
ROLLBACK TO s;
FETCH 1 FROM halfway;
COMMIT;

-- ---- how many rows the planner expects ----

VACUUM ANALYZE eventstore.event_log;
ANALYZE eventstore.event_tag;
CREATE FUNCTION expected_rows(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT json) ' || statement INTO plan;
    RETURN plan->0->'Plan'->>'Plan Rows';
END $$;
CREATE FUNCTION found_rows(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (%s) s', statement) INTO n;
    RETURN n;
END $$;
SELECT statement, expected_rows(statement), found_rows(statement)
FROM unnest(ARRAY[
    $$SELECT * FROM es_read_all(0, NULL)$$,
    $$SELECT * FROM es_read_all(0, 7)$$,
    $$SELECT * FROM es_read_all(10, NULL, up_to => 15)$$,
    $$SELECT * FROM es_read_all(15, NULL, backwards => true, up_to => 10)$$,
    $$SELECT * FROM es_read_all(0, NULL, types => '{T}')$$,
    $$SELECT * FROM es_read_all(0, NULL, types => '{T, Paid}')$$,
    $$SELECT * FROM es_read_all(0, NULL, types => '{Unheard}')$$,
    $$SELECT * FROM es_read_all(0, NULL, categories => '{Order}')$$,
    $$SELECT * FROM es_read_category('Many', 0, NULL)$$,
    $$SELECT * FROM es_read_category('Many', 0, NULL, 0, 2)$$,
    $$SELECT * FROM es_query('[{"types": ["Paid"]}]')$$,
    $$SELECT * FROM es_query('[{}]')$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE type = 'Paid'$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE type IN ('Paid', 'Unheard')$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE position <= 5$$,
    $$SELECT * FROM es_query('[{}]') WHERE type = 'Paid'$$]) statement;
-- Nothing is told where row-level security applies: what the declaration says.
ALTER TABLE eventstore.event_log ENABLE ROW LEVEL SECURITY;
CREATE ROLE regress_unseen;
GRANT USAGE ON SCHEMA eventstore TO regress_unseen;
GRANT EXECUTE ON FUNCTION es_query TO regress_unseen;
SET ROLE regress_unseen;
SELECT expected_rows($$SELECT * FROM es_query('[{}]')$$);
EXPLAIN (COSTS OFF) SELECT * FROM es_query('[{}]');
RESET ROLE;
ALTER TABLE eventstore.event_log DISABLE ROW LEVEL SECURITY;
DROP OWNED BY regress_unseen;
DROP ROLE regress_unseen;

-- ---- what a read costs ----

-- A scan stops where it is stopped, looks at no event that a condition leaves out, writes no temporary
-- file and needs no sort: all of that stays true of the answers, so it is asked for by itself.
CREATE FUNCTION effort(statement text, scan text DEFAULT 'on') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
    told text;
BEGIN
    PERFORM set_config('eventstore.enable_scan', scan, true);
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) ' || statement INTO plan;
    told := plan::text;
    RETURN concat_ws(', ', 'looked at ' || substring(told FROM '"Events Looked At": (\d+)'),
        'by ' || substring(told FROM '"Indexes": \[([^]]*)\]'),
        CASE WHEN told ~ '"Index Only": true' THEN 'only' END,
        CASE WHEN told ~ '"Node Type": "(Incremental )?Sort"' THEN 'sorted' END,
        CASE WHEN (plan->0->'Plan'->>'Temp Written Blocks')::bigint > 0 THEN 'temporary file' END);
END $$;
SET work_mem = '64kB';
SELECT statement, effort(statement) AS "on", effort(statement, 'off') AS "off"
FROM unnest(ARRAY[
    $$SELECT * FROM es_read_all(0, NULL) LIMIT 3$$,
    $$SELECT max(data::text) FROM es_read_all(0, NULL)$$,
    $$SELECT count(*) FROM es_read_all(0, NULL)$$]) statement;
RESET eventstore.enable_scan;
RESET work_mem;
SELECT statement, effort(statement)
FROM unnest(ARRAY[
    $$SELECT * FROM es_read_all(0, NULL) ORDER BY position LIMIT 3$$,
    $$SELECT * FROM es_read_all(NULL, NULL, backwards => true) ORDER BY position DESC LIMIT 3$$,
    $$SELECT * FROM es_read_all(0, NULL) ORDER BY position DESC LIMIT 3$$,
    $$SELECT * FROM es_read_stream('Many-K0') ORDER BY version LIMIT 3$$,
    $$SELECT * FROM es_read_stream('Many-K0') ORDER BY position LIMIT 3$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE type = 'Paid'$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE type IN ('Paid', 'Unheard')$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE stream = 'Order-1'$$,
    $$SELECT * FROM es_read_all(0, NULL) WHERE position <= 5$$,
    $$SELECT * FROM es_read_all(NULL, NULL, backwards => true) WHERE position > 5 LIMIT 2$$,
    $$SELECT * FROM es_read_all(0, 7) WHERE position <= 5$$,
    $$SELECT * FROM es_read_all(0, 7) WHERE type = 'Paid'$$,
    $$SELECT * FROM es_read_stream('Many-K0') WHERE version BETWEEN 5 AND 7$$,
    $$SELECT * FROM es_query('[{}]') WHERE type = 'Paid'$$,
    $$SELECT position FROM es_read_all(0, NULL) WHERE position <= 5$$,
    $$SELECT version FROM es_read_stream('Many-K0') WHERE version <= 4$$]) statement;

-- ---- explained after things have gone ----

LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
CREATE INDEX by_user ON eventstore.event_log (pg_catalog.hashtextextended((metadata OPERATOR(pg_catalog.->>) 'user'::pg_catalog.text) COLLATE pg_catalog."C", 0::pg_catalog.int8), position) WHERE metadata OPERATOR(pg_catalog.?) 'user'::pg_catalog.text;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT position FROM es_read_correlation('x', NULL, 0, 'user');
FETCH ALL FROM c;
SELECT fate('DROP INDEX eventstore.by_user');
CLOSE c;
COMMIT;
SET auto_explain.log_analyze = off;
BEGIN;
DECLARE unread CURSOR FOR SELECT position FROM es_read_all();
DECLARE appended CURSOR FOR SELECT position FROM es_append('Many-K0', 'T');
MOVE FORWARD ALL FROM appended;
SET LOCAL client_min_messages = warning;
SET LOCAL eventstore.allow_drop = on;
DROP EXTENSION eventstore CASCADE;
COMMIT;
SELECT count(*) FROM pg_extension WHERE extname = 'eventstore';
