-- Events by types and tags, across streams: es_query().

CREATE EXTENSION eventstore;

-- A school.  Positions of events are told relative to the first one.
SELECT count(*)
FROM es_append_batch(
    ARRAY['Course-1', 'Course-2', 'Student-7', 'Student-8', 'Enrolment-1', 'Enrolment-2', 'Enrolment-3', 'Enrolment-1', 'Note-1'],
    ARRAY['CourseDefined', 'CourseDefined', 'StudentJoined', 'StudentJoined', 'Subscribed', 'Subscribed', 'Subscribed', 'Cancelled', 'Noted'],
    array_fill('{}'::jsonb, ARRAY[9]),
    tags => ARRAY['["course:1"]', '["course:2"]', '["student:7"]', '["student:8"]', '["course:1", "student:7"]',
        '["student:8", "course:1"]', '["course:2", "student:7"]', '["course:1", "student:7"]', NULL]::jsonb[]);

-- ---- items ----

-- One tag; its events in the order of the log, of whatever stream.
SELECT version, stream, type, tags FROM es_query('[{"tags": ["course:1"]}]');

-- All tags of an item, in any order; one more tag, and none is left.
SELECT stream, version, type FROM es_query('[{"tags": ["course:1", "student:7"]}]');
SELECT stream, version, type FROM es_query('[{"tags": ["student:7", "course:1"]}]');
SELECT stream, version, type FROM es_query('[{"tags": ["student:7", "course:1", "course:2"]}]');

-- One of an item's types, and all of its tags.
SELECT stream, version, type FROM es_query('[{"types": ["Subscribed"]}]');
SELECT stream, version, type FROM es_query('[{"types": ["Subscribed", "Cancelled"], "tags": ["student:7"]}]');
SELECT stream, version, type FROM es_query('[{"types": ["CourseDefined"], "tags": ["student:7"]}]');

-- Any item.  An event that several match comes once.
SELECT stream, version, type FROM es_query('[{"tags": ["student:8"]}, {"types": ["CourseDefined"]}]');
SELECT stream, version, type FROM es_query('[{"tags": ["course:2"]}, {"tags": ["student:7"]}, {"tags": ["student:7", "course:2"]}]');
SELECT count(*) FROM es_query('[{"tags": ["course:1"]}, {"tags": ["course:1"]}, {}]');

-- Everything; all of these are "any".
SELECT query, count(*), count(DISTINCT position)
FROM unnest(ARRAY['[{}]', '[{"tags": []}]', '[{"types": null}]', '[{"types": null, "tags": null}]', '[{"tags": []}, {"tags": ["course:1"]}]']) query,
    LATERAL es_query(query::jsonb)
GROUP BY query
ORDER BY query;

-- The same tag or type twice is once.
SELECT count(*) FROM es_query('[{"tags": ["course:1", "course:1", "course:1"]}]');
SELECT count(*) FROM es_query('[{"types": ["Subscribed", "Subscribed"], "tags": ["course:1", "course:1"]}]');

-- What nobody has used, and what nobody could use, matches nothing.
SELECT query, count(position)
FROM unnest(ARRAY['[{"tags": ["course:3"]}]', '[{"tags": [""]}]', '[{"types": [""]}]', '[{"types": ["Unheard"]}]', '[{"tags": ["COURSE:1"]}]',
    '[{"tags": ["course:1 "]}]', '[{"tags": ["course:1", ""]}]', '[{"types": ["Subscribed", ""], "tags": ["course:2"]}]']) query
LEFT JOIN LATERAL es_query(query::jsonb) ON true
GROUP BY query
ORDER BY query COLLATE "C";
SELECT count(*) FROM es_query(jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(repeat('x', 100000)))));

-- ---- from where, how many ----

SELECT min(position) AS first FROM es_query('[{"tags": ["course:1"]}]') \gset
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1"]}]', :first);
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1"]}]', :first, 2);
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1"]}, {"types": ["CourseDefined"]}]', max_count => 2);
SELECT count(*) AS after_head FROM es_query('[{}]', es_head());

-- Without max_count all there are, however many.
SELECT count(*) FROM (
    SELECT array_agg('Batch-' || n % 3) AS streams, array_agg('Counted'::text) AS types, array_agg('{}'::jsonb) AS data,
        array_agg('["batch"]'::jsonb) AS tags
    FROM generate_series(1, 1500) n) c, es_append_batch(streams, types, data, tags => c.tags);
SELECT count(*) FROM es_query('[{"tags": ["batch"]}]');
SELECT count(*) AS none FROM es_query('[{}]', max_count => 0);
SELECT count(*) AS "all" FROM es_query('[{}]', max_count => NULL);
SELECT count(*) AS "all" FROM es_query('[{}]', NULL);

-- Backwards: below a position, the newest first; NULL begins at the end.
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1"]}]', backwards => true);
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1"]}]', backwards => true, max_count => 1);
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1"]}, {"types": ["CourseDefined"]}]', :first + 5, 2, backwards => true);
SELECT position - :first AS place, type FROM es_query('[{"tags": ["course:1", "student:7"]}]', backwards => true);
SELECT count(*) AS none FROM es_query('[{}]', 0, backwards => true);
SELECT count(*) AS none FROM es_query('[{}]', 1, backwards => true);
SELECT count(*) FROM es_query('[{}]', 9223372036854775807, backwards => true);
\echo :SQLSTATE
SELECT * FROM es_query('[{}]', backwards => NULL);
\echo :SQLSTATE
SELECT * FROM es_query('[{}]', backwards => true, wait => '1 s');
\echo :SQLSTATE

-- "up_to" is the last position wanted: the greatest or, backwards, the least.
SELECT position - :first AS place FROM es_query('[{"tags": ["course:1"]}]', up_to => :first + 4);
SELECT position - :first AS place FROM es_query('[{"tags": ["course:1"]}]', :first, up_to => :first + 5);
SELECT position - :first AS place FROM es_query('[{"tags": ["course:1"]}]', backwards => true, up_to => :first + 4);
SELECT position - :first AS place FROM es_query('[{"tags": ["course:1"]}, {"types": ["StudentJoined"]}]', :first + 5, backwards => true, up_to => :first + 2);
SELECT count(*) AS none FROM es_query('[{}]', up_to => 0);
SELECT count(*) = (SELECT count(*) FROM eventstore.events) AS "all" FROM es_query('[{}]', backwards => true, up_to => 0);
SELECT count(*) AS none FROM es_query('[{}]', :first + 3, up_to => :first + 3);
SELECT count(*) AS none FROM es_query('[{}]', :first + 3, backwards => true, up_to => :first + 3);
SELECT * FROM es_query('[{}]', up_to => -1);
\echo :SQLSTATE

-- It need not have been handed out: a bound is not a checkpoint.
SELECT count(*) FROM es_query('[{"tags": ["course:1"]}]', up_to => 9223372036854775807);
SELECT count(*) AS none FROM es_query('[{"tags": ["course:1"]}]', backwards => true, up_to => 9223372036854775807);

-- Once the head is there, nothing is waited for.
SELECT clock_timestamp() AS before \gset
SELECT count(*) AS none FROM es_query('[{"tags": ["course:3"]}]', wait => '60 s', up_to => es_head());
SELECT clock_timestamp() < timestamptz :'before' + interval '20 s' AS "at once";

-- A page at a time, each after the last position of the one before.
WITH RECURSIVE page AS (
    SELECT 1 AS number, (SELECT array_agg(position ORDER BY position) FROM es_query('[{"tags": ["course:1"]}, {"tags": ["student:7"]}]', 0, 2)) AS positions
    UNION ALL
    SELECT number + 1, (SELECT array_agg(position ORDER BY position) FROM es_query('[{"tags": ["course:1"]}, {"tags": ["student:7"]}]', positions[cardinality(positions)], 2))
    FROM page
    WHERE cardinality(positions) = 2
)
SELECT number, (SELECT array_agg(p - :first) FROM unnest(positions) p) AS places FROM page;

SELECT * FROM es_query('[{}]', -1);
\echo :SQLSTATE
SELECT * FROM es_query('[{}]', max_count => -1);
\echo :SQLSTATE
SELECT count(*) FROM es_query('[{}]', 9223372036854775807);
\echo :SQLSTATE
SELECT * FROM es_query(NULL);
\echo :SQLSTATE

-- Nothing comes within the time: no rows.  What is there already is not waited for.
SELECT count(*) FROM es_query('[{"tags": ["course:3"]}]', wait => '10 ms');
SELECT count(*) FROM es_query('[{"tags": ["course:1"]}]', wait => '60 s');
SELECT * FROM es_query('[{}]', wait => '61 s');
\echo :SQLSTATE

-- ---- what is no query ----

CREATE FUNCTION outcome(query jsonb) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM es_query(query);
    RETURN 'ok';
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT query, outcome(query::jsonb)
FROM unnest(ARRAY['[]', '{}', 'null', '"x"', '1', 'true', '[null]', '[1]', '["course:1"]', '[[]]', '[[{}]]', '[{}, 1]', '{"tags": ["a"]}',
    '[{"tag": ["a"]}]', '[{"": []}]', '[{"types": []}]', '[{"types": [], "tags": ["a"]}]', '[{"types": "A"}]', '[{"types": {}}]',
    '[{"types": {"A": 1}}]', '[{"types": [1]}]', '[{"types": [null]}]', '[{"types": [["A"]]}]', '[{"types": true}]', '[{"tags": "a"}]',
    '[{"tags": {}}]', '[{"tags": ["a", null]}]', '[{"tags": ["a", {}]}]', '[{"tags": 0}]', '[{"tags": ["a"], "after": 1}]',
    '[{"tags": ["a"]}, {"tags": ["b"], "types": []}]']) query;

-- The hint.
SELECT * FROM es_query('{"tags": ["course:1"]}');

-- ---- letters ----

-- Any script; compared byte by byte, with nothing normalised: the two ways to write é differ.
SELECT count(*) FROM es_append_batch(
    ARRAY['Letter-1', 'Letter-2', 'Letter-3', 'Letter-4'], ARRAY['Größe', '大', 'Größe', 'Emoji'], array_fill('{}'::jsonb, ARRAY[4]),
    tags => ARRAY['["straße:ß"]', '["名:太郎", "straße:ß"]', '["caf\u00e9"]', '["🎈", "a,b", "{x}", "\"q\"", " "]']::jsonb[]);
SELECT query, string_agg(stream, ' ' ORDER BY position) AS streams
FROM unnest(ARRAY['[{"tags": ["straße:ß"]}]', '[{"tags": ["stra\u00dfe:\u00df"], "types": ["大"]}]', '[{"tags": ["名:太郎", "straße:ß"]}]',
    '[{"types": ["Gr\u00f6\u00dfe"]}]', '[{"tags": ["caf\u00e9"]}]', '[{"tags": ["cafe\u0301"]}]', '[{"tags": ["🎈", "a,b", "{x}", "\"q\"", " "]}]',
    '[{"tags": ["\ud83c\udf88"]}]', '[{"tags": ["a"]}]']) query
LEFT JOIN LATERAL es_query(query::jsonb) ON true
GROUP BY query
ORDER BY query COLLATE "C";

-- The longest tag there may be, and one that differs from it in the last letter.
SELECT version FROM es_append('Letter-5', 'Long', tags => ARRAY[repeat('ü', 255)]);
SELECT stream FROM es_query(jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(repeat('ü', 255)))));
SELECT stream FROM es_query(jsonb_build_array(jsonb_build_object('tags', jsonb_build_array(repeat('ü', 254) || 'u'))));

-- ---- events with many tags, and the same tag twice ----

SELECT version FROM es_append('Many-1', 'Counted', tags => (SELECT array_agg('n:' || n) FROM generate_series(1, 300) n));
SELECT version FROM es_append('Many-1', 'Counted', tags => '{n:1, n:1, n:2, n:1}');
SELECT version, cardinality(tags) FROM es_query('[{"tags": ["n:1", "n:2"]}]');
SELECT version FROM es_query(jsonb_build_array(jsonb_build_object('tags', (SELECT jsonb_agg('n:' || n) FROM generate_series(1, 300) n))));
SELECT version FROM es_query((SELECT jsonb_agg(jsonb_build_object('tags', jsonb_build_array('n:' || n))) FROM generate_series(1, 300) n));

-- ---- against a filter over all events ----

-- 3,000 events with tags at random, always the same ones.
SELECT setseed(0.5);
SELECT count(*) FROM (
    SELECT array_agg('Random-' || n % 7) AS streams, array_agg('T' || (random() * 5)::int) AS types,
        array_agg(CASE WHEN n % 10 > 0 THEN to_jsonb(ARRAY['a' || (random() * 3)::int, 'b' || (random() * 20)::int, 'c' || (random() * 300)::int]) END) AS tags
    FROM generate_series(1, 3000) n) e, es_append_batch(streams, types, array_fill('{}'::jsonb, ARRAY[3000]), tags => e.tags);

CREATE FUNCTION matches(e es_event, query jsonb) RETURNS boolean
    LANGUAGE sql
    AS $$
    SELECT bool_or(
        (item->'types' IS NULL OR item->'types' ? e.type) AND
        (item->'tags' IS NULL OR to_jsonb(coalesce(e.tags, '{}')) @> (item->'tags')))
    FROM jsonb_array_elements(query) item
$$;

-- Queries of one to three items, with none to three tags each: is what es_query() gives what the
-- filter leaves?
CREATE TABLE asked AS
SELECT n, jsonb_agg(item) AS query
FROM (
    SELECT n, jsonb_strip_nulls(jsonb_build_object(
        'types', CASE WHEN (n + i) % 3 = 0 THEN to_jsonb(ARRAY['T' || (random() * 5)::int, 'T' || (random() * 6)::int]) END,
        'tags', CASE (n + i) % 4
            WHEN 0 THEN to_jsonb(ARRAY['c' || (random() * 300)::int])
            WHEN 1 THEN to_jsonb(ARRAY['b' || (random() * 20)::int, 'a' || (random() * 3)::int])
            WHEN 2 THEN to_jsonb(ARRAY['a' || (random() * 3)::int, 'c' || (random() * 300)::int, 'b' || (random() * 20)::int])
        END)) AS item
    FROM generate_series(1, 60) n, generate_series(1, 1 + n % 3) i) items
GROUP BY n;
SELECT count(*) AS queries, count(*) FILTER (WHERE given IS NOT DISTINCT FROM wanted) AS right, count(given) AS "not empty"
FROM asked,
    LATERAL (SELECT array_agg(position) AS given FROM es_query(query, max_count => NULL)) g,
    LATERAL (SELECT array_agg(position ORDER BY position) AS wanted FROM es_read_all(max_count => NULL) e WHERE matches(e, query)) w;

-- The same for a part of the log.
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY position) AS middle FROM eventstore.events \gset
SELECT count(*) FILTER (WHERE given IS NOT DISTINCT FROM wanted) AS right
FROM asked,
    LATERAL (SELECT array_agg(position) AS given FROM es_query(query, :middle, 20)) g,
    LATERAL (SELECT array_agg(position ORDER BY position) AS wanted FROM (
        SELECT position FROM es_read_all(:middle, max_count => NULL) e WHERE matches(e, query) ORDER BY position LIMIT 20) e) w;

-- Backwards, and with both bounds.
SELECT percentile_disc(0.2) WITHIN GROUP (ORDER BY position) AS low FROM eventstore.events \gset
SELECT count(*) FILTER (WHERE given IS NOT DISTINCT FROM wanted) AS right, count(given) AS "not empty"
FROM asked,
    LATERAL (SELECT array_agg(position) AS given FROM es_query(query, backwards => true)) g,
    LATERAL (SELECT array_agg(position ORDER BY position DESC) AS wanted FROM es_read_all(max_count => NULL) e WHERE matches(e, query)) w;
SELECT count(*) FILTER (WHERE given IS NOT DISTINCT FROM wanted) AS right
FROM asked,
    LATERAL (SELECT array_agg(position) AS given FROM es_query(query, :middle, 20, backwards => true, up_to => :low)) g,
    LATERAL (SELECT array_agg(position ORDER BY position DESC) AS wanted FROM (
        SELECT position FROM es_read_all(max_count => NULL) e
        WHERE matches(e, query) AND position < :middle AND position >= :low ORDER BY position DESC LIMIT 20) e) w;
SELECT count(*) FILTER (WHERE given IS NOT DISTINCT FROM wanted) AS right
FROM asked,
    LATERAL (SELECT array_agg(position) AS given FROM es_query(query, :low, up_to => :middle)) g,
    LATERAL (SELECT array_agg(position ORDER BY position) AS wanted FROM es_read_all(max_count => NULL) e
        WHERE matches(e, query) AND position > :low AND position <= :middle) w;

-- ---- what it costs ----

-- The last event of a query: one descent of an index for each tag, and one to the event, however
-- many match.
CREATE FUNCTION descents(OUT tags bigint, OUT events bigint)
    LANGUAGE sql
    AS $$ SELECT pg_stat_get_xact_numscans('eventstore.event_tag_tag'::regclass), pg_stat_get_xact_numscans('eventstore.event_log_position'::regclass) $$;
CREATE FUNCTION cost(statement text, OUT tags bigint, OUT events bigint)
    LANGUAGE plpgsql
    AS $$
DECLARE
    before record;
BEGIN
    SELECT * INTO before FROM descents();
    EXECUTE statement;
    SELECT d.tags - before.tags, d.events - before.events INTO tags, events FROM descents() d;
END $$;
SELECT query, backwards, c.*
FROM (VALUES ('[{"tags": ["batch"]}]'), ('[{"tags": ["batch"], "types": ["Counted"]}]'), ('[{"tags": ["batch", "batch"]}]'),
    ('[{"tags": ["batch"]}, {"tags": ["course:1"]}]')) q (query),
    (VALUES (false), (true)) b (backwards),
    LATERAL cost(format('SELECT position FROM es_query(%L, max_count => 1, backwards => %L)', query, backwards)) c;

-- ---- types as they are stored, and as upcasters show them ----

CREATE FUNCTION renamed(data jsonb, metadata jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT data || '{"new": true}' $$;
SELECT version FROM es_append('Order-1', 'OrderCreated', '{"n": 1}', tags => '{order:1}');
SELECT version FROM es_append('Order-1', 'OrderPlaced', '{"n": 2}', tags => '{order:1}', schema_version => 2);
SELECT es_register_upcaster('OrderCreated', 1, 'renamed', 'OrderPlaced', 2);
SELECT query, array_agg(format('%s %s %s', version, type, data) ORDER BY position) AS events
FROM unnest(ARRAY['[{"types": ["OrderCreated"]}]', '[{"types": ["OrderPlaced"]}]', '[{"types": ["OrderCreated"], "tags": ["order:1"]}]',
    '[{"types": ["OrderPlaced"], "tags": ["order:1"]}]', '[{"tags": ["order:1"]}]']) query, LATERAL es_query(query::jsonb)
GROUP BY query
ORDER BY query;
DROP FUNCTION renamed CASCADE;
SELECT version, type FROM es_query('[{"types": ["OrderPlaced"], "tags": ["order:1"]}]');

-- ---- what has been taken away ----

SELECT es_append('Gone-1', 'Happened', tags => '{gone}'), es_append('Gone-1', 'Happened', tags => '{gone}'), es_append('Gone-2', 'Happened', tags => '{gone}') \g /dev/null
SELECT stream, version FROM es_query('[{"tags": ["gone"]}]');
SELECT es_truncate_stream('Gone-1', 2);
SELECT stream, version FROM es_query('[{"tags": ["gone"]}]');
SELECT es_delete_stream('Gone-2');
SELECT stream, version FROM es_query('[{"tags": ["gone"]}]');
SELECT stream, version FROM es_query('[{"types": ["Happened"]}]');
-- (The worker may have been there before.)
SELECT es_scavenge() \g /dev/null
SELECT stream, version FROM es_query('[{"tags": ["gone"]}]');

-- A scavenged event leaves none of its tags behind.
SELECT count(*) FROM eventstore.event_tag t WHERE NOT EXISTS (SELECT FROM eventstore.event_log l WHERE l.position = t.position);
SELECT count(*) FROM eventstore.event_tag t JOIN eventstore.event_log l USING (position) JOIN eventstore.stream s USING (stream_key)
WHERE s.name LIKE 'Gone-%';
SELECT version FROM es_append('Gone-2', 'Happened', tags => '{gone}');
SELECT stream, version FROM es_query('[{"tags": ["gone"]}]');

-- Retention hides at once.
SELECT es_set_retention('Gone', max_count => 1);
SELECT version FROM es_append('Gone-1', 'Happened', tags => '{gone, again}');
SELECT stream, version FROM es_query('[{"tags": ["gone"]}]');
SELECT stream, version FROM es_query('[{"tags": ["gone", "again"]}]');

-- ---- one's own transaction ----

-- As all reads by position: up to the head, which stays below what this transaction has appended.
BEGIN;
SELECT version FROM es_append('Own-1', 'Happened', tags => '{own}');
SELECT count(*) FROM es_query('[{"tags": ["own"]}]');
SELECT * FROM es_query('[{"tags": ["own"]}]', wait => '1 s');
\echo :SQLSTATE
ROLLBACK;
SELECT version FROM es_append('Own-1', 'Happened', tags => '{own}');
SELECT stream, version FROM es_query('[{"tags": ["own"]}]');

-- What was rolled back is nowhere.
BEGIN;
SELECT version FROM es_append('Own-1', 'Happened', tags => '{own}');
SAVEPOINT s;
SELECT version FROM es_append('Own-1', 'Happened', tags => '{own}');
ROLLBACK TO s;
COMMIT;
BEGIN;
SELECT version FROM es_append('Own-1', 'Happened', tags => '{own}');
ROLLBACK;
SELECT stream, version FROM es_query('[{"tags": ["own"]}]');

-- In REPEATABLE READ and above, too, it reads what is committed now (see read_all).
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT stream, version FROM es_query('[{"tags": ["own"], "types": ["Happened"]}]');
COMMIT;
BEGIN READ ONLY;
SELECT stream, version FROM es_query('[{"tags": ["own"]}]');
COMMIT;

-- ---- every row of event_tag belongs to an event that bears the tag, and the other way round ----

SELECT count(*) FILTER (WHERE has IS DISTINCT FROM wants) AS wrong, count(*) > 2000 AS many
FROM (SELECT position, count(*) AS has FROM eventstore.event_tag GROUP BY position) h
FULL JOIN (SELECT position, (SELECT count(DISTINCT tag) FROM unnest(tags) tag) AS wants FROM eventstore.event_log WHERE tags IS NOT NULL) w
    USING (position);

-- Nobody writes it but the store.
INSERT INTO eventstore.event_tag VALUES (1, 1);
\echo :SQLSTATE
UPDATE eventstore.event_tag SET tag = 1;
\echo :SQLSTATE
DELETE FROM eventstore.event_tag;
\echo :SQLSTATE
TRUNCATE eventstore.event_tag;
\echo :SQLSTATE
