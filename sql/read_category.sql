-- Reading a category, by position; consumer groups.

CREATE EXTENSION eventstore;

CREATE TABLE answer AS
SELECT row_number() OVER () AS n, v.stream, a.version, a.position
FROM (VALUES
    ('Order-1', 'Placed'), ('Stock-9', 'Reserved'), ('Order-2', 'Placed'), ('Order-1', 'Paid'), ('Order', 'Audited'),
    ('Orders-1', 'Placed'), ('order-1', 'Placed'), ('Order-1-a', 'Placed'), ('11111111-2222-3333-4444-555555555555', 'Bare'),
    ('aaaaaaaa-2222-3333-4444-555555555555', 'Bare'), (U&'Caf\00e9-1', 'NFC'), (U&'Cafe\0301-1', 'NFD'), ('it''s "x"-1', 'Quoted'),
    ('🚀-1', 'Launched')) v (stream, type),
    LATERAL es_append(v.stream, v.type) a;

-- The category of a stream is its name up to the first '-', and nothing like it.
SELECT stream, version, type FROM es_read_category('Order');
SELECT stream, version, type FROM es_read_category('order');
SELECT stream, version, type FROM es_read_category('🚀');
SELECT stream, version, type FROM es_read_category('it''s "x"');
SELECT type FROM es_read_category(U&'Caf\00e9');
SELECT type FROM es_read_category(U&'Cafe\0301');
SELECT count(*) FROM es_read_category('Ord');
SELECT count(*) FROM es_read_category('Order-1');
SELECT count(*) FROM es_read_category('None');

-- '' is that of the streams whose name is a bare UUID.
SELECT stream, version, type FROM es_read_category('');

-- After a position; at most so many.
SELECT position AS third FROM answer WHERE n = 3 \gset
SELECT stream, version, type FROM es_read_category('Order', :third);
SELECT stream, version, type FROM es_read_category('Order', :third, 1);
SELECT stream, version, type FROM es_read_category('Order', 0, 1);
SELECT count(*) FROM es_read_category('Order', es_head());
SELECT count(*) FROM es_read_category('Order', NULL, 2147483647);

-- It stops at the head.
BEGIN;
SELECT version FROM es_append('Order-3', 'Placed');
SELECT count(*) FROM es_read_category('Order');
ROLLBACK;

-- Consumer groups: each stream has one member that reads it.
SELECT count(*)
FROM generate_series(1, 3) turn, generate_series(1, 100) i, LATERAL es_append('Group-' || i, 'Turn', to_jsonb(turn));
CREATE TABLE share AS
SELECT member, e.stream, e.version, e.position, ordinality
FROM generate_series(0, 3) member, LATERAL es_read_category('Group', NULL, 1000, member, 4) WITH ORDINALITY e;

-- Together they read all, and nothing twice.
SELECT count(*), count(DISTINCT position), count(DISTINCT member) AS members FROM share;
SELECT count(*) AS "streams of two members"
FROM (SELECT stream FROM share GROUP BY stream HAVING count(DISTINCT member) > 1) s;

-- Nobody idles, nobody has it all.
SELECT member, count(DISTINCT stream) BETWEEN 5 AND 60 AS "has a share" FROM share GROUP BY member ORDER BY member;

-- In order.
SELECT count(*) AS "out of order"
FROM (SELECT position, lag(position) OVER (PARTITION BY member ORDER BY ordinality) AS before FROM share) s
WHERE position < before;

-- The share of a member does not depend on the page or the day.
SELECT count(*) AS "other than before"
FROM es_read_category('Group', (SELECT min(position) FROM share), 1000, 2, 4) e
LEFT JOIN share s USING (position)
WHERE s.member IS DISTINCT FROM 2;
SELECT count(*) AS page, bool_and(s.member = 1) AS own
FROM es_read_category('Group', NULL, 7, 1, 4) e
LEFT JOIN share s USING (position);

-- A group of one is everybody.
SELECT count(*) FROM es_read_category('Group', NULL, 1000, 0, 1);

-- Who is not in the group, cannot read in it.
CREATE FUNCTION outcome(statement text) RETURNS text
    LANGUAGE plpgsql
    AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN coalesce('ok: ' || answer, 'ok');
EXCEPTION
    WHEN OTHERS THEN
        RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT member, size, outcome(format('SELECT count(*) FROM es_read_category(%L, NULL, 1000, %L, %L)', 'Group', member, size))
FROM (VALUES (1, NULL), (NULL, 1), (4, 4), (-1, 4), (0, 0), (0, -1), (2147483647, 2147483647), (NULL, NULL)) v (member, size);

-- "group_by" keeps streams together that are alike up to a character.
SELECT count(*)
FROM generate_series(1, 40) i, unnest(ARRAY['', '+items', '+items+old', '+']) part, LATERAL es_append('Cart-' || i || part, 'Turn') a;
CREATE TABLE joint AS
SELECT separator, member, stream
FROM unnest(ARRAY['+', NULL]) separator, generate_series(0, 3) member,
    LATERAL es_read_category('Cart', NULL, NULL, member, 4, group_by => separator);
SELECT separator, count(*), count(DISTINCT stream) AS streams, count(DISTINCT member) AS members FROM joint GROUP BY separator;
SELECT separator, count(*) > 0 AS "carts of two members"
FROM (SELECT separator, split_part(stream, '+', 1) AS cart FROM joint GROUP BY 1, 2 HAVING count(DISTINCT member) > 1) s
GROUP BY separator;
-- Where the character is not in the name, it is the stream; it may be any, of any script.
SELECT count(*) AS "other than without" FROM es_read_category('Group', NULL, 1000, 2, 4, group_by => '+') e
LEFT JOIN share s USING (position) WHERE s.member IS DISTINCT FROM 2;
SELECT count(*) FROM generate_series(1, 20) i, LATERAL es_append('Größe-' || i || 'ß' || i % 2, 'Turn');
SELECT count(*), count(DISTINCT stream)
FROM generate_series(0, 3) member, LATERAL es_read_category('Größe', NULL, NULL, member, 4, group_by => 'ß');
SELECT count(DISTINCT member) AS members
FROM generate_series(0, 3) member, LATERAL es_read_category('Größe', NULL, NULL, member, 4, group_by => 'ö') e;
SELECT group_by, outcome(format('SELECT count(*) FROM es_read_category(%L, NULL, 1000, 0, 2, group_by => %L)', 'None', group_by))
FROM unnest(ARRAY['', '++', '+', 'ß', 'ßß', NULL]) group_by;
SELECT outcome($$SELECT count(*) FROM es_read_category('None', group_by => '+')$$);

-- Thousands of categories do not disturb one another.
SELECT count(*)
FROM generate_series(1, 3000) i, LATERAL es_append('Cat' || i || '-1', 'Made', to_jsonb(i));
SELECT count(*) FROM generate_series(1, 3000, 7) i, LATERAL es_append('Cat' || i || '-2', 'Changed', to_jsonb(i));
SELECT stream, type, data FROM es_read_category('Cat1');
SELECT stream, type, data FROM es_read_category('Cat2997');
SELECT stream, type, data FROM es_read_category('Cat3000');
SELECT count(*) FROM es_read_category('Cat');
SELECT count(*), count(*) FILTER (WHERE e.data = to_jsonb(i)) AS own
FROM generate_series(1, 3000) i, LATERAL es_read_category('Cat' || i) e;
SELECT stream, type FROM es_read_all(types => ARRAY['Changed'], categories => ARRAY['Cat1', 'Cat2', 'Cat2997']);
SELECT count(*) FROM es_read_all(NULL, 10000, ARRAY['Changed']);
SELECT stream, type FROM es_read_all(NULL, 2, ARRAY['Made'], ARRAY['Cat2997', 'Cat2998', 'Cat2999'], true);
SELECT count(*), count(DISTINCT e.position)
FROM generate_series(0, 1) member, LATERAL es_read_category('Cat2997', NULL, 1000, member, 2) e;
