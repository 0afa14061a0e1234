-- The yardstick: the plainest table that keeps the same facts, and procedures
-- that fill it and the event store with the same events in the same order.
--
-- Two indexes, no foreign key, no trigger.  The id is filled in by the server
-- and has no index of its own: the event store finds an event by its id, the
-- yardstick need not.  The database has the C locale, so the yardstick compares
-- names as cheaply as a column that is COLLATE "C".

CREATE TABLE yardstick (
    position   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream     text NOT NULL,
    version    bigint NOT NULL,
    type       text NOT NULL,
    data       jsonb NOT NULL,
    metadata   jsonb,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (stream, version)
);

-- The name of stream number n.  The pgbench scripts spell it out; here and
-- there it is the same expression.
CREATE FUNCTION stream_name(n bigint)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN 'Order-' || md5(n::text)::uuid;

-- Events number i to i + 999 of a fill: streams first .. last in blocks of
-- width streams that are open together; a block is written in rounds, one
-- event a stream, until each of its streams has depth events.
CREATE FUNCTION fill_call(i bigint, first bigint, last bigint, depth bigint, width bigint)
RETURNS TABLE (stream text, version bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT stream_name(first + (e / (width * depth)) * width + e % width),
           (e % (width * depth)) / width + 1
      FROM generate_series(i, i + 999) AS e
     WHERE first + (e / (width * depth)) * width + e % width <= last
     ORDER BY e;
END;

CREATE PROCEDURE fill_yardstick(first bigint, last bigint, depth bigint, width bigint, type text, data jsonb)
LANGUAGE plpgsql
AS $$
DECLARE
    blocks CONSTANT bigint := (last - first + width) / width;
BEGIN
    FOR i IN 0 .. blocks * width * depth - 1 BY 1000 LOOP
        INSERT INTO yardstick (stream, version, type, data)
        SELECT c.stream, c.version, fill_yardstick.type, fill_yardstick.data
          FROM fill_call(i, first, last, depth, width) AS c;
        COMMIT;
    END LOOP;
END
$$;

CREATE PROCEDURE fill_eventstore(first bigint, last bigint, depth bigint, width bigint, type text, data jsonb)
LANGUAGE plpgsql
AS $$
DECLARE
    blocks CONSTANT bigint := (last - first + width) / width;
    names  text[];
BEGIN
    FOR i IN 0 .. blocks * width * depth - 1 BY 1000 LOOP
        names := ARRAY(SELECT c.stream FROM fill_call(i, first, last, depth, width) AS c);
        PERFORM count(*)
           FROM es_append_batch(names,
                                array_fill(type, ARRAY[cardinality(names)]),
                                array_fill(data, ARRAY[cardinality(names)]));
        COMMIT;
    END LOOP;
END
$$;
